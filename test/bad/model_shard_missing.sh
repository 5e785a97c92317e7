. "$ROOT/test/bad/tiny_model.inc"
config m
echo '{"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}' >m/model.safetensors.index.json
$GPT convert --model m --to hf --out out
