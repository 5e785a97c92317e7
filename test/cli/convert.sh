# A model to llm.c's format and back is the same model, byte for byte.
. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
printf 'some numbers' | dd of=m/model.safetensors bs=1 seek=1400 conv=notrunc 2>/dev/null
$GPT convert --model m --to hf --out a
$GPT convert --model a --to llmc --out a.bin
$GPT convert --model a.bin --to hf --out b
ls a
cmp a/model.safetensors b/model.safetensors && echo same weights
cmp a/config.json b/config.json && echo same config
