. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set train.max_steps=100000 train.eval_interval=0 train.checkpoint_interval=0 2>log &
until [ -s runs/tiny/metrics.jsonl ]; do sleep 0.1; done
kill -TERM $!
wait $! || echo "status $?"
tail -n 1 log | sed 's/step [0-9]*/step N/'
[ "$(losses runs/tiny | tail -n 1 | cut -d ' ' -f 1)" -eq "$(sed 's/.*step-0*//' runs/tiny/latest)" ] && echo "saved the last step"
# A second signal does not wait for a step that takes minutes.
$GPT train --config config.json --overwrite --set train.global_batch_size=1000000 2>log &
until grep -q 'ready after' log; do sleep 0.1; done
kill -TERM $!
sleep 0.2
kill -TERM $!
{ wait $!; } 2>/dev/null || echo "status $?"
