. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | grep -v h.0.ln_2.bias | weights m
$GPT convert --model m --to hf --out out
