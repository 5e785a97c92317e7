. "$ROOT/test/bad/tiny_model.inc"
tensors | shards m
truncate -s 600 m/model-00002-of-00002.safetensors
$GPT convert --model m --to llmc --out out.bin
