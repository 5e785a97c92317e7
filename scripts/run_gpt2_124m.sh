#!/bin/sh
# GPT-2 124M on 10 billion tokens, on one node: data, training, HellaSwag: scripts/run_gpt2_124m.sh [-d] [ARGUMENTS...]
#
#   -d           only says what it would run
#   ARGUMENTS    for gpt train, beside its config: --set ...
#
# Run it again after any stop or fault: data is fetched once, and training goes on from the newest checkpoint. On eight
# H100 it should take about 50 minutes: gpt plan --config configs/gpt2-124m.json --gpus 8 --gpu h100, and so for others.
# GPUS=8 (all there are)
set -eu
cd "$(dirname "$0")/.."
GPT=${GPT:-./gpt}
dry=
[ "${1-}" != -d ] || { dry=1; shift; }
gpus=${GPUS:-$(nvidia-smi -L 2>/dev/null | wc -l)}
[ "$gpus" -gt 0 ] || gpus=1

say() { printf '\n== %s\n' "$1"; }
run() {
    printf '$ %s\n' "$*"
    [ -n "$dry" ] || "$@"
}

say 'Data: 10 billion tokens of FineWeb, GPT-2'"'"'s vocabulary, HellaSwag'
run scripts/get_data.sh gpt2-vocab fineweb10B hellaswag

say "Train on $gpus GPU(s)"
run env GPT="$GPT" scripts/train.sh -n "$gpus" --config configs/gpt2-124m.json --resume "$@"

say 'HellaSwag (GPT-2 124M itself: 28.9 %, by characters 31.1 %)'
run "$GPT" eval --model runs/gpt2-124m --task data/hellaswag/hellaswag_val.jsonl
