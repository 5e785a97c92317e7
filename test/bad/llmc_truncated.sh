. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
$GPT convert --model m --to llmc --out m.bin 2>/dev/null
truncate -s -1 m.bin
$GPT convert --model m.bin --to hf --out out
