. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set tokenizer= model.vocab_size=100 2>&1 | grep token
exit 1
