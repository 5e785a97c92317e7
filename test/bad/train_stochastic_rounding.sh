. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set train.device=cpu optimizer.stochastic_rounding=true
