#!/bin/bash
# Everything that needs a GPU, in one go, in under eight minutes: builds, tests, checks memory and races, trains, and
# measures against PyTorch. For a bare GPU machine with the CUDA toolkit and Python with PyTorch.
#
#   scripts/gpu_check.sh --pack       where cJSON's and zlib's headers are: puts them and their libraries into .gpu/, to carry along
#   scripts/gpu_check.sh [STEP...]    all steps, or only these: build ops agree sanitize train bench peer
#
# PYTHON=python3 has torch and numpy. What a step prints goes to $OUT/STEP.log too (OUT=build-gpu unless set), and the last
# lines say which steps passed. Copy what was measured into test/gpu/STATUS.md.
# shellcheck disable=SC2317  # steps are called by their names
set -u
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-build-gpu}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT"

pack() {
    mkdir -p .gpu/include .gpu/lib
    cp -r /usr/include/cjson .gpu/include/
    cp /usr/include/zlib.h /usr/include/zconf.h /usr/include/*/zconf.h .gpu/include/ 2>/dev/null
    for lib in libcjson.a libz.a libcjson.so libcjson.so.1 libz.so; do
        find /usr/lib /lib -name "$lib" -exec cp -L {} .gpu/lib/ \; 2>/dev/null
    done
    ls .gpu/include .gpu/lib
}
[ "${1:-}" = --pack ] && { pack; exit; }

if [ -d .gpu ]; then
    export CPATH="$PWD/.gpu/include:${CPATH:-}" LIBRARY_PATH="$PWD/.gpu/lib:${LIBRARY_PATH:-}" LD_LIBRARY_PATH="$PWD/.gpu/lib:${LD_LIBRARY_PATH:-}"
fi

build() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader
    nvcc --version | tail -1
    time make -j"$(nproc)" gpt build/test/run
    ./gpt version
    ldd gpt | grep -E 'cublas|cudart|not found'
    ! ldd gpt | grep -q 'not found'
}

ops() {
    GPT_TEST_DEVICE=cuda build/test/run ops
}

# Whole runs, CPU against GPU; twice the same; stopped and resumed.
agree() {
    GPT=./gpt FP32=1e-4 BF16=1e-3 test/cuda_on_cpu/agree.sh
}

sanitize() {
    local tool
    for tool in memcheck racecheck; do
        GPT_TEST_DEVICE=cuda timeout 36 compute-sanitizer --tool "$tool" --error-exitcode 9 build/test/run ops || return 1
    done
}

# Real text without a network: what Python's own sources say, split by the loader's own tools.
train() {
    local work=$OUT/real
    rm -rf "$work" && mkdir -p "$work"
    "$PYTHON" - "$work/text.txt" <<'PY'
import glob, os, sys, sysconfig
n = 0
with open(sys.argv[1], "w") as out:
    for path in sorted(glob.glob(sysconfig.get_paths()["stdlib"] + "/**/*.py", recursive=True)):
        text = open(path, errors="replace").read()
        n += out.write(text + "\n")
        if n > 30 << 20:
            break
PY
    ./gpt tokenizer train --input "$work/text.txt" --vocab-size 16384 --out "$work/tokenizer" &&
        ./gpt data shard --input "$work/text.txt" --tokenizer "$work/tokenizer" --val-fraction 0.02 --out "$work/shards" &&
        timeout -s INT 45 ./gpt train --config configs/gpt2-124m.json --set "out=$work/run" "tokenizer=$work/tokenizer" \
            "data.train=$work/shards/train_*.bin" "data.val=$work/shards/val_*.bin" train.max_steps=400 \
            train.global_batch_size=64 train.micro_batch_size=32 lr_schedule.warmup_steps=40 train.eval_interval=100 \
            train.sample_interval=0 train.checkpoint_interval=0 || [ $? -eq 124 ] || return 1 # stopped by the clock, and saved
    ./gpt sample --model "$work/run" --prompt 'def main():' --max-tokens 100 --stats &&
        ./gpt eval --model "$work/run" --data "$work/shards/val_*.bin" --max-tokens 100000
}

bench() {
    ./gpt bench --device cuda --precision bf16 && ./gpt bench --device cuda --precision fp8
}

peer() {
    "$PYTHON" scripts/bench/gpu.py --models 124m,1558m --precisions bf16,fp8 --no-peer 1558m --rounds 1 --seconds 8
}

# Seconds that a step may take: 475 in all, if each took all of them.
declare -A limit=([build]=70 [ops]=40 [agree]=60 [sanitize]=75 [train]=70 [bench]=45 [peer]=115)
steps=("$@")
[ $# -gt 0 ] || steps=(build ops agree sanitize train bench peer)
export -f build ops agree sanitize train bench peer
export OUT PYTHON
failed=0 summary=
for step in "${steps[@]}"; do
    [ -n "${limit[$step]:-}" ] || { echo "gpu_check: no step $step (build ops agree sanitize train bench peer)" >&2; exit 2; }
    echo "== $step"
    start=$SECONDS
    if timeout "${limit[$step]}" bash -c "$step" >"$OUT/$step.log" 2>&1; then result=passed; else result="FAILED ($?)" failed=1; fi
    tail -n 40 "$OUT/$step.log"
    summary+="$step: $result in $((SECONDS - start)) s"$'\n'
done
printf '== %s, commit %s, %s\n%s' "$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null || echo no GPU)" \
    "$(git rev-parse --short HEAD 2>/dev/null)" "$(date -u +%F)" "$summary"
exit $failed
