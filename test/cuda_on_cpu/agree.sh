#!/bin/sh
# Whole models on two devices: small GPT-1 and GPT-2 models trained for 50 steps on the CPU and with the kernels of gpt.cu
# give the same losses, within FP32=1e-6 in fp32 (with muon 1e-5) and BF16=5e-4 in bf16 (relative); a second run with those
# kernels, and runs that are killed and resumed, give the same bits; both devices write the same text. GPT: a program with
# CUDA, or with CUDA on the CPU (the kernels' threads then run in another order in the second run, which must not matter).
here=$(cd "$(dirname "$0")" && pwd)
GPT=${GPT:-$here/../../build-emu/gpt}
case $GPT in /*) ;; *) GPT=$PWD/$GPT ;; esac
export OMP_WAIT_POLICY=passive
scratch=$(mktemp -d) && cd "$scratch" || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0

# check WHAT COMMAND...: the command must succeed; what it prints is shown.
check() {
    what=$1
    shift
    if "$@" >told 2>&1; then
        passed=$((passed + 1)) && echo "ok      $what$(sed 's/^/: /;q' told)"
    else
        failed=$((failed + 1)) && echo "FAILED  $what" && tail -n 5 told log
    fi
}

model='"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2'
# config MODEL-TYPE PRECISION OPTIMIZER: the name of a file for such a run. One of them is without dropout: its steps are
# replayed.
config() {
    [ "$1-$2-$3" = gpt2-fp32-adamw ] && p=0 || p=0.1
    cat >"$1-$2-$3.json" <<END
{"tokenizer": "tok", "model": {"model_type": "$1", $model, "resid_pdrop": $p, "embd_pdrop": $p, "attn_pdrop": $p},
 "data": {"train": "shards/train_*.bin", "val": "shards/val_*.bin"},
 "train": {"max_steps": 50, "global_batch_size": 2, "micro_batch_size": 1, "precision": "$2", "threads": 2,
           "eval_interval": 25, "eval_batches": 2, "checkpoint_interval": 10, "keep_checkpoints": 2},
 "optimizer": {"name": "$3", "lr": 3e-3}, "lr_schedule": {"warmup_steps": 10}}
END
    echo "$1-$2-$3.json"
}
# train DEVICE NAME CONFIG FLAG...
train() {
    device=$1 name=$2 config=$3
    shift 3
    "$GPT" train --config "$config" --set name="$name" train.device="$device" "$@" >log 2>&1
}
losses() { sed 's/.*"step": \([0-9]*\), "loss": \([^,]*\),.*/\1 \2/' "runs/$1/metrics.jsonl"; }
newest() { echo "runs/$1/$(cat "runs/$1/latest")"; }

# Six steps of two ranks that share each layer; what they say goes through the host.
ranks() {
    "$here/../parallel/run.sh" 2 "$GPT" train --config "$1" --set name="ranks-$1" train.device=cuda train.max_steps=6 \
        parallel.tensor=2 parallel.sequence_parallel=true parallel.comm=mpi >log 2>&1
}
# close A B LIMIT [STEPS=50]: no loss of the two runs differs by more, and they are so many that fall.
close() {
    losses "$1" >a && losses "$2" >b && paste -d' ' a b | awk -v limit="$3" -v steps="${4:-50}" '
        { d = ($2 - $4) / $2; if (d < 0) d = -d; if (d > most) most = d; if (NR == 1) first = $2; last = $4 }
        $1 != $3 || !($2 > 0) || !($4 > 0) { bad = 1 }
        END {
            printf "losses %.4f to %.4f, at most %.2g apart\n", first, last, most
            exit bad || NR < steps || most > limit || (steps == 50 && last > 0.9 * first)
        }'
}
same() {
    losses "$1" >a && losses "$2" >b && cmp a b &&
        cmp "$(newest "$1")/model.safetensors" "$(newest "$2")/model.safetensors" &&
        cmp "$(newest "$1")/optimizer.safetensors" "$(newest "$2")/optimizer.safetensors"
}

# agree WHAT CONFIG LIMIT: a run on each device, with the same losses.
agree() {
    check "$1 on the CPU" train cpu "cpu-$2" "$2"
    check "$1 with CUDA" train cuda "cuda-$2" "$2"
    check "$1: the same losses" close "cpu-$2" "cuda-$2" "$3"
}

# Killed once it has written its second checkpoint, and resumed.
killed() {
    "$GPT" train --config "$1" --set name=killed train.device=cuda --overwrite >log 2>&1 &
    pid=$!
    until [ -e runs/killed/checkpoints/step-00000020 ]; do kill -0 $pid && sleep 0.1 || return 1; done
    kill -9 $pid
    wait $pid 2>/dev/null
    [ "$(losses killed | tail -n 1 | cut -d' ' -f1)" -lt 50 ] && train cuda killed "$1" --resume && grep -q resumed log
}
text() {
    for device in cpu cuda; do
        "$GPT" sample --model "runs/$1" --device $device --precision fp32 --prompt "Once upon" --max-tokens 30 --samples 2 \
            --temperature 0 --threads 2 >"$device.txt" 2>log || return 1
    done
    cmp cpu.txt cuda.txt && wc -c <cpu.txt
}

{
    "$GPT" data demo --out s.jsonl --bytes 100000 --seed 3 &&
        "$GPT" tokenizer train --input s.jsonl --vocab-size 300 --out tok &&
        "$GPT" data shard --input s.jsonl --tokenizer tok --out shards --val-fraction 0.1
} >log 2>&1 || { cat log && echo "0 passed, 1 failed, 0 skipped" && exit 1; }

for type in gpt2 openai-gpt; do
    for precision in fp32 bf16; do
        c=$(config $type $precision adamw)
        agree "$type $precision" "$c" "$([ $precision = fp32 ] && echo "${FP32:-1e-6}" || echo "${BF16:-5e-4}")"
    done
    # Its threads take turns in another order, and copies come earlier.
    export CUDA_ON_CPU_SEED=12 CUDA_ON_CPU_EARLY=1
    if [ $type = gpt2 ]; then
        check "$type bf16 again" train cuda again "$c"
        check "$type bf16 again: the same bits" same "cuda-$c" again
    else
        check "$type bf16, killed and resumed" killed "$c"
        check "$type bf16, killed and resumed: the same bits" same "cuda-$c" killed
    fi
    unset CUDA_ON_CPU_SEED CUDA_ON_CPU_EARLY
    check "$type: the same text" text "cuda-$type-fp32-adamw.json"
done
# Its directions are products of bf16 matrices in any precision.
for precision in fp32 bf16; do
    c=$(config gpt2 $precision muon)
    agree "gpt2 $precision, muon" "$c" "$([ $precision = fp32 ] && echo "${FP32:-1e-5}" || echo "${BF16:-5e-4}")"
done
check "gpt2 bf16, muon, killed and resumed" killed "$c"
check "gpt2 bf16, muon, killed and resumed: the same bits" same "cuda-$c" killed
skipped=0
if command -v mpirun >/dev/null && mpirun --version >/dev/null 2>&1; then
    c=$(config openai-gpt fp32 adamw)
    check "openai-gpt fp32, six steps" train cuda "six-$c" "$c" train.max_steps=6
    check "openai-gpt fp32, six steps of two ranks" ranks "$c"
    check "openai-gpt fp32, six steps of two ranks: the same losses" close "six-$c" "ranks-$c" "${FP32:-1e-6}" 6
else
    skipped=1 && echo "skipped two ranks: no mpirun here"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
