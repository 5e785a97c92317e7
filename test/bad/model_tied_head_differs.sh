. "$ROOT/test/bad/tiny_model.inc"
config m && { echo "lm_head.weight [4,2] 32" && tensors; } | weights m
printf x | dd of=m/model.safetensors bs=1 seek="$(($(wc -c <m/model.safetensors) - 350))" conv=notrunc 2>/dev/null
$GPT convert --model m --to hf --out out
