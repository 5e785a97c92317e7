. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
sed -i s/gpt2/llama/ m/config.json
$GPT convert --model m --to hf --out out
