. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set model.vocab_size=200
