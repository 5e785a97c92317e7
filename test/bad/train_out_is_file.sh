. "$ROOT/test/cli/tiny_run.inc"
: >out
$GPT train --config config.json --set out=out
