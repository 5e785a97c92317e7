. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
truncate -s -1 m/model.safetensors
$GPT convert --model m --to hf --out out
