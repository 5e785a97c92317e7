. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set train.max_steps=100000 train.eval_interval=0 train.checkpoint_interval=0 2>log &
until [ -s runs/tiny/metrics.jsonl ]; do sleep 0.1; done
kill -TERM $!
wait $! || echo "status $?"
tail -n 1 log | sed 's/step [0-9]*/step N/'
[ "$(losses runs/tiny | tail -n 1 | cut -d ' ' -f 1)" -eq "$(sed 's/.*step-0*//' runs/tiny/latest)" ] && echo "saved the last step"
