. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
$GPT convert --model m --to hf --out /proc/out
