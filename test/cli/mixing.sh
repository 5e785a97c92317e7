# Each rule of mixing: shares that go where it says, caps that hold, and a run that is killed again and again, in and at
# the ends of intervals, goes on bit for bit.
. "$ROOT/test/cli/three_sources.inc"
for rule in static stratified validation exp3 doremi; do
    echo "== $rule"
    mix "$rule" name="$rule"
    rows "$rule" | paste -sd ' ' | sed 's/"rows": //g'
    grep -c '"mixing": {"stories": {"weight": [0-9.e-]*, "loss": [0-9.enul-]*, "reward": [0-9.e-]*, "rows": [0-9]*}, "more": ' "runs/$rule"/metrics.jsonl
    for step in 02 05 08 15; do
        $GPT train --config config.json --set data.mixing="$rule" name=killed train.checkpoint_interval=1 --resume >/dev/null 2>&1 &
        until [ -d runs/killed/checkpoints/step-000000$step ] || ! kill -0 $! 2>/dev/null; do sleep 0.002; done
        { kill -KILL $! && wait $!; } 2>/dev/null
    done
    mix "$rule" name=killed --resume
    found "$rule" >whole && found killed | cmp - whole &&
        cmp "runs/$rule"/checkpoints/step-00000020/model.safetensors runs/killed/checkpoints/step-00000020/model.safetensors &&
        echo "the same when killed"
    rm -r runs/killed
done
echo "== what has no shares to choose is as it was"
mix static name=one data.train=a/train_*.bin
losses one >one.losses
for rule in stratified validation exp3; do
    mix "$rule" name="one-$rule" 'data.train=[{"path": "a/train_*.bin", "val": "a/val_*.bin"}]'
    losses "one-$rule" | cmp - one.losses && echo "one source: $rule as static"
done
echo "== another rule than before"
mix exp3 name=validation --resume | grep config:
