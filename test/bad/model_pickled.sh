. "$ROOT/test/bad/tiny_model.inc"
config m
echo PK >m/pytorch_model.bin
$GPT convert --model m --to hf --out out
