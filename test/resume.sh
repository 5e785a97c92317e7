#!/bin/sh
# Stops a training run in every way there is, and goes on: the losses and the weights must be those of a run that
# was never stopped, bit for bit. Knobs: GPT, KILLS (20), SEED (of the moments; printed).
GPT=${GPT:-$(dirname "$0")/../gpt}
case $GPT in /*) ;; *) GPT=$PWD/$GPT ;; esac
KILLS=${KILLS:-20} SEED=${SEED:-$$}
export OMP_WAIT_POLICY=passive # no spinning: other tests may run beside this one
scratch=$(mktemp -d) && cd "$scratch" || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0

# check WHAT COMMAND...: the command must succeed.
check() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        tail -n 5 log
        echo "FAILED  $what"
    fi
}

cat >config.json <<'END'
{"tokenizer": "tok",
 "model": {"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2,
           "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
 "data": {"train": [{"path": "shards/train_*.bin", "weight": 1}], "val": [{"path": "shards/val_*.bin", "weight": 1}]},
 "train": {"max_steps": 300, "global_batch_size": 8, "micro_batch_size": 4, "seq_len": 32, "log_interval": 50,
           "eval_interval": 20, "eval_batches": 2, "checkpoint_interval": 7, "keep_checkpoints": 3},
 "optimizer": {"lr": 1e-3}, "lr_schedule": {"name": "cosine", "warmup_steps": 50}}
END
# train NAME FLAG...; the program's process is $pid until `wait`.
start() {
    name=$1
    shift
    "$GPT" train --config config.json --set name="$name" "$@" >log 2>&1 &
    pid=$!
}
train() { start "$@" && wait $pid; }
resume() { train "$1" --resume; }
newest() { echo "runs/$1/$(cat "runs/$1/latest")"; }

# What a run computed: its metrics but the clock's, its weights, the optimizer's state.
result() {
    sed 's/, "tokens_per_second.*"seconds": [^,}]*//' "runs/$1/metrics.jsonl"
    cat "$(newest "$1")"/model.safetensors "$(newest "$1")"/optimizer.safetensors | cksum
}
same_as_whole() { result "$1" >"$1.result" && diff whole.result "$1.result" >log; }
goes_on() { resume "$1" && same_as_whole "$1"; }
tells() { grep -q "$1" log; }

# seconds SHARE: of the time that the whole run took; random SHARE N: up to twice that, by the seed.
seconds() { awk -v ms="$took" -v share="$1" 'BEGIN { print share * ms / 1000 }'; }
random() { awk -v ms="$took" -v share="$1" -v seed="$SEED$2" 'BEGIN { srand(seed); print 2 * rand() * share * ms / 1000 }'; }

# stops NAME SIGNAL: in its middle; the program must say by its status that it did.
stops() {
    start "$1" --resume
    sleep "$(seconds 0.4)"
    kill -"$2" $pid
    wait $pid
    [ $? -eq 75 ]
}

{
    "$GPT" data demo --out stories.jsonl --bytes 300000 &&
        "$GPT" tokenizer train --input stories.jsonl --vocab-size 300 --out tok &&
        "$GPT" data shard --input stories.jsonl --tokenizer tok --val-fraction 0.05 --out shards
} >log 2>&1 || { cat log && echo "0 passed, 1 failed, 0 skipped" && exit 1; }

now() { date +%s%3N; }
began=$(now)
check "a whole run" train whole
took=$(($(now) - began))
result whole >whole.result
train again --set train.threads=1
check "the same on one thread" same_as_whole again

killed=0 tries=0
while [ $killed -lt "$KILLS" ] && [ $tries -lt $((3 * KILLS)) ]; do
    tries=$((tries + 1))
    start killed --resume
    sleep "$(random "$(awk -v n="$KILLS" 'BEGIN { print 1 / n }')" $tries)"
    kill -KILL $pid 2>/dev/null && killed=$((killed + 1))
    wait $pid 2>/dev/null
done
check "killed $killed times at random moments (SEED=$SEED)" goes_on killed

check "stopped by SIGINT" stops stopped INT
check "and gone on with" goes_on stopped

check "stopped by SIGTERM" stops cut TERM
model=$(newest cut)/model.safetensors
truncate -s 1000 "$model"
echo '{"step": 9' >>runs/cut/metrics.jsonl
resume cut
check "a truncated checkpoint is told of" tells "falling back"
check "and the one before gives the same" same_as_whole cut

stops flipped TERM
printf x | dd of="$(newest flipped)/optimizer.safetensors" bs=1 seek=5000 conv=notrunc 2>/dev/null
resume flipped
check "a damaged checkpoint is told of" tells "falling back"
check "and the one before gives the same" same_as_whole flipped

# A write that fails half way: no file may grow beyond 125 kB.
(
    trap '' XFSZ
    ulimit -f 250
    resume half
)
check "a failed write is told of" tells "cannot write"
check "and without the fault it goes on" goes_on half

# No space left: on a small file system of our own, if we may make one.
mkdir -p runs/full
if mount -t tmpfs -o size=2m none runs/full 2>/dev/null; then
    trap 'umount "$scratch/runs/full"; rm -rf "$scratch"' EXIT
    resume full
    check "no space left is told of" tells "no space left"
    mount -o remount,size=100m runs/full
    check "and with space it goes on" goes_on full
else
    skipped=2 && echo "skipped no space left: this user cannot mount a small file system"
fi

echo "$passed passed, $failed failed, ${skipped:-0} skipped"
[ "$failed" -eq 0 ]
