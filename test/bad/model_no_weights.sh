. "$ROOT/test/bad/tiny_model.inc"
config m
$GPT convert --model m --to hf --out out
