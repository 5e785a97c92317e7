. "$ROOT/test/bad/tiny_model.inc"
tensors | shards m
printf x | dd of=m/model-00002-of-00002.safetensors bs=1 seek=650 conv=notrunc 2>/dev/null
$GPT convert --model m --to hf --out out
