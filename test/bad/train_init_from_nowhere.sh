. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set init_from=nowhere
