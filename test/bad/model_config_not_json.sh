. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
echo "{model_type: gpt2}" >m/config.json
$GPT convert --model m --to hf --out out
