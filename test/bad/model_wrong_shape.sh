. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | sed 's/\[2,8\]/[8,2]/' | weights m
$GPT convert --model m --to hf --out out
