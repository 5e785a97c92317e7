. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
$GPT convert --model m --to llmc --out m.bin 2>/dev/null
printf x | dd of=m.bin bs=1 seek=1500 conv=notrunc 2>/dev/null
$GPT convert --model m.bin --to hf --out out
