. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
sed -i 's/"n_head": 1/"n_head": 3/' m/config.json
$GPT convert --model m --to hf --out out
