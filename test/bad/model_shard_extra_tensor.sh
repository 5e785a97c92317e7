# Files of a larger model beside the config of a smaller one.
. "$ROOT/test/bad/tiny_model.inc"
{ tensors && echo 'h.1.ln_1.weight [2] 8'; } | shards m
$GPT convert --model m --to hf --out out
