. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set model.n_embd=65536 model.n_layer=96 2>&1 | grep "^gpt: needs"; exit 1
