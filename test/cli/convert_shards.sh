# A model in several files becomes one in one file, the same as if it had been so from the beginning.
. "$ROOT/test/bad/tiny_model.inc"
tensors | shards m && config one && tensors | weights one
ls m
$GPT convert --model m --to hf --out a
$GPT convert --model one --to hf --out b
ls a
cmp a/model.safetensors b/model.safetensors && cmp a/manifest.json b/manifest.json && echo same
$GPT convert --model m --to llmc --out a.bin
$GPT convert --model one --to llmc --out b.bin
cmp a.bin b.bin && echo same
