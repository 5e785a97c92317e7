. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
{ le 8 1000000 && tail -c +9 m/model.safetensors; } >x && mv x m/model.safetensors
$GPT convert --model m --to hf --out out
