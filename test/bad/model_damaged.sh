. "$ROOT/test/bad/tiny_model.inc"
config x && tensors | weights x
$GPT convert --model x --to hf --out m 2>/dev/null
printf x | dd of=m/model.safetensors bs=1 seek=1700 conv=notrunc 2>/dev/null
$GPT convert --model m --to hf --out out
