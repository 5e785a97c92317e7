. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
sed -i 's/\[32,56\]/[31,55]/' m/model.safetensors
$GPT convert --model m --to hf --out out
