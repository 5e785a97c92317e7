. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
mkdir out
$GPT convert --model m --to hf --out out
