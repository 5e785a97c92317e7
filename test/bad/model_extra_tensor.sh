. "$ROOT/test/bad/tiny_model.inc"
config m && { tensors && echo "h.1.ln_1.weight [2] 8"; } | weights m
$GPT convert --model m --to hf --out out
