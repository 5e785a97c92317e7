# scripts/train.sh with ranks: a signal to it reaches all of them, and a rank that dies is a fault.
. "$ROOT/test/cli/tiny_run.inc"
command -v mpirun >/dev/null || { echo "SKIP: there is no mpirun here" && exit; }
export BACKOFF=0 MPIRUN_FLAGS=--oversubscribe OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS-}" # MPI libraries leak
set -- -n 2 --config config.json --set train.eval_interval=0 train.checkpoint_interval=0
train() { "$ROOT/scripts/train.sh" "$@"; }
train "$@" train.max_steps=1 out=one >log 2>&1 || { grep -q 'built without MPI' log && echo "SKIP: built without MPI" && exit; cat log; }

echo "== wrong usage"
train "$@" train.seq_len=4096 out=none 2>&1 | grep 'gpt: ' || echo "no message"
train "$@" train.seq_len=4096 out=none >/dev/null 2>&1 || echo "status $?"

echo "== stopped with all saved, and on from there"
"$ROOT/scripts/train.sh" "$@" train.max_steps=20000 out=long >log 2>&1 &
until [ -s long/metrics.jsonl ]; do sleep 0.1; done
kill -TERM $!
wait $! || echo "status $?"
[ "$(losses long | tail -n 1 | cut -d ' ' -f 1)" -eq "$(sed 's/.*step-0*//' long/latest)" ] && echo "saved the last step"

echo "== a rank that is killed"
cat >falls <<'END'
#!/bin/sh
if [ "$OMPI_COMM_WORLD_RANK" != 1 ] || [ -e fell ]; then exec "$REAL" "$@"; fi
"$REAL" "$@" &
until [ -s runs/tiny/latest ]; do sleep 0.05; done
touch fell
kill -9 $!
wait $!
END
chmod +x falls
export REAL="$GPT"
(GPT=./falls train "$@" train.max_steps=200 train.checkpoint_interval=20) 2>&1 | sed -n 's/exit [0-9]*;/exit N;/; s/^train.sh/&/p'
train "$@" train.max_steps=200 out=whole >/dev/null 2>&1
losses runs/tiny | tail -n 1 >a
losses whole | tail -n 1 | cmp - a && echo "the same losses as without"
