. "$ROOT/test/bad/tiny_model.inc"
tensors | shards m
printf '}' | dd of=m/model.safetensors.index.json bs=1 seek=100 conv=notrunc 2>/dev/null
$GPT convert --model m --to hf --out out
