# scripts/train.sh: restarts after faults, and only then.
. "$ROOT/test/cli/tiny_run.inc"
export BACKOFF=0
train() { "$ROOT/scripts/train.sh" "$@"; }

echo "== what it would run"
echo "node7 slots=8" >hosts
would() { GPT=./gpt NCCL_DEBUG=WARN train -d "$@" --config config.json | sed -e 's/ --allow-run-as-root//' -e 's/ -x [COU][A-Z]*_[A-Z_]*//g'; }
would
would -n 4
would -n 16 -f hosts
GPT=./gpt LAUNCH="srun --kill-on-bad-exit=1" train -d --config config.json

echo "== killed twice, then done"
cat >falls_twice <<'END'
#!/bin/sh
echo "gpt $*" >>calls
[ "$(wc -l <calls)" -gt 2 ] && exec "$REAL" "$@"
"$REAL" "$@" & # dies when it has saved something new
until [ "$(cat runs/tiny/latest 2>/dev/null)" != "$(cat seen 2>/dev/null)" ]; do sleep 0.05; done
cp runs/tiny/latest seen
kill -9 $!
wait $!
END
chmod +x falls_twice
set -- --config config.json --set train.max_steps=400 train.checkpoint_interval=20 train.eval_interval=0
export REAL="$GPT"
(GPT=./falls_twice train --overwrite "$@") 2>log || echo "status $?"
grep train.sh log
cat calls
$GPT train "$@" out=whole 2>/dev/null
losses runs/tiny | tail -n 1 >a
losses whole | tail -n 1 | cmp - a && echo "the same losses as without"

echo "== at most so often"
printf '#!/bin/sh\nexit 3\n' >fails
chmod +x fails
GPT=./fails train -k 2 --config config.json || echo "status $?"

echo "== wrong usage is no fault"
train --config config.json --set train.seq_len=0.5 || echo "status $?"

echo "== stopped with all saved"
"$ROOT/scripts/train.sh" --config config.json --set out=long train.max_steps=20000 train.eval_interval=0 train.checkpoint_interval=0 2>log &
until [ -s long/metrics.jsonl ]; do sleep 0.1; done
kill -TERM $!
wait $! || echo "status $?"
tail -n 1 log | sed 's/step [0-9]*/step N/'
