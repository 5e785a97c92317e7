. "$ROOT/test/bad/tiny_model.inc"
tensors | shards m
rm m/model-00001-of-00002.safetensors
$GPT convert --model m --to hf --out out
