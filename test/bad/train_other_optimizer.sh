. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set train.max_steps=1 2>/dev/null
$GPT train --config config.json --set optimizer.name=muon --resume 2>log
status=$?
tail -n 1 log
exit $status
