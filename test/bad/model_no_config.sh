. "$ROOT/test/bad/tiny_model.inc"
tensors | weights m
$GPT convert --model m --to hf --out out
