#!/bin/bash
# Whole runs of `gpt train` by several ranks: on every kind of grid as by one process, resumed on the grid they began on
# bit for bit and on any other to rounding, and ended in every way a job can end. Knobs: GPT, SEED (of the moments).
here=$(cd "$(dirname "$0")" && pwd)
GPT=${GPT:-$here/../../gpt}
case $GPT in /*) ;; *) GPT=$PWD/$GPT ;; esac
export GPT ROOT=$here/../.. OMP_WAIT_POLICY=passive SEED=${SEED:-$$}
scratch=$(mktemp -d) && cd "$scratch" || exit 1
trap 'kill "$job" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0

# shellcheck source=/dev/null
. "$here/../cli/tiny_run.inc"
sed -i 's/"n_embd": 16, "n_layer": 2, "n_head": 2/"n_embd": 32, "n_layer": 4, "n_head": 4, "resid_pdrop": 0.1, "attn_pdrop": 0.1/;
    s/"lr_schedule": {/"lr_schedule": {"name": "constant", /; s/"max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2/"max_steps": 12, "global_batch_size": 8, "micro_batch_size": 1/' config.json

check() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        tail -n 12 log
        echo "FAILED  $what"
        return 1
    fi
}

# Flags of a grid "dp pp tp [KEY=VALUE]...", and its number of ranks.
flags() {
    printf -- '--set parallel.data=%s --set parallel.pipeline=%s --set parallel.tensor=%s' "$1" "$2" "$3"
    shift 3
    [ $# = 0 ] || printf -- ' --set parallel.%s' "$@"
}
size() { echo $(($1 * $2 * $3)); }

# train NAME GRID FLAG...; start, the same in the background: then $job is the launcher.
start() {
    local name=$1 grid=$2
    shift 2
    # shellcheck disable=SC2046,SC2086  # these are words
    "$here/run.sh" $(size $grid) "$GPT" train --config config.json --set name="$name" $(flags $grid) "$@" >log 2>&1 &
    job=$!
}
train() { start "$@" && wait $job; }

# The losses of two runs, step by step, to a millionth.
close() {
    paste -d' ' <(losses "runs/$1") <(losses "runs/$2") |
        awk '{ d = $2 / $4 - 1; if ($1 != $3 || d > 1e-6 || d < -1e-6) bad = 1 } END { exit bad || NR != 12 }'
}
# What a run computed: metrics without its clocks, weights, the optimizer's state.
result() {
    sed 's/, "tokens_per_second.*"data_seconds": [^,}]*//; s/, "tokens_per_second.*"seconds": [^,}]*//' "runs/$1/metrics.jsonl"
    cat "runs/$1/$(cat "runs/$1/latest")"/{model,optimizer}*.safetensors | cksum
}
same() { diff <(result "$1") <(result "$2") >log; }
tells() { grep -q "$1" log; }
once() { [ "$(grep -c "$1" log)" = 1 ]; }
newer() { [ "$(losses "runs/$1" 2>/dev/null | wc -l)" -ge "$2" ]; }
# Wait until a run has done so many steps.
reaches() {
    for _ in $(seq 600); do
        newer "$1" "$2" && return
        sleep 0.1
    done
    return 1
}
a_rank() { pgrep -f "^$GPT train .*name=$1 " | sed -n "${2}p"; }
launcher() { pgrep -P "$job"; } # which run.sh has timed
ends_with() {
    wait "$job"
    status=$?
    [ "$status" = "$1" ] || { echo "status $status instead of $1" >>log; return 1; }
}
fails() { ! wait "$job"; }

"$GPT" train --config config.json --set name=one >log 2>&1
if ! command -v mpirun >/dev/null || ! "$here/run.sh" 2 "$GPT" help >/dev/null 2>&1; then
    echo "skipped train.sh: no mpirun here, or built without MPI" && echo "0 passed, 0 failed, 1 skipped" && exit
fi

grids=("2 1 1" "1 2 1" "1 1 2" "2 1 1 zero=1" "2 1 1 zero=2" "1 2 2 interleave=2" "2 1 2 zero=1 sequence_parallel=true" "2 2 2")
for grid in "${grids[@]}"; do
    name=${grid//[ =]/-}
    check "$grid: as one process" train "$name" "$grid"
    check "$grid: its losses" close one "$name"
done

! train wrong "2 1 1 zero=3"
check "a wrong config is said once" once "^gpt: .*parallel.zero is 3"

# Half of a run on each grid, the rest on the next.
for i in "${!grids[@]}"; do
    grid=${grids[$i]} next=${grids[$(((i + 3) % ${#grids[@]}))]} name=moves-$i
    train "$name" "$grid" --set train.max_steps=6
    check "$grid goes on as $next" train "$name" "$next" --resume
    check "$grid goes on as $next: its losses" close one "$name"
done
train alone "2 2 2" --set train.max_steps=6
check "2 2 2 goes on alone" "$GPT" train --config config.json --set name=alone --resume
check "2 2 2 goes on alone: its losses" close one alone

# What it writes on the way, too.
sample() { sed -n '/a sample at step 6/,$p' "$1" >"$2" && [ "$(wc -l <"$2")" -gt 1 ]; }
samples=(--set train.max_steps=6 --set train.sample_interval=6)
"$GPT" train --config config.json --set name=writes "${samples[@]}" >alone.log 2>&1
train writes-2 "1 2 2 sequence_parallel=true" "${samples[@]}"
check "1 2 2 sequence_parallel: a sample" sample log sample-2
check "1 2 2 sequence_parallel: the sample of one process" eval 'sample alone.log sample-1 && diff sample-1 sample-2 >>log'

# The same grid: bit for bit, whatever ended the run. It is long enough not to be over before the signal comes: a rank
# that is stopped when the others have left can be ended by nobody.
grid="2 1 2 zero=1 sequence_parallel=true"
slow=(--set train.max_steps=60 --set train.log_interval=1 --set parallel.timeout=5)
train whole "$grid" "${slow[@]}"
start term "$grid" "${slow[@]}"
reaches term 3 && kill -TERM "$(a_rank term 2)"
check "SIGTERM to one rank: all save and stop" ends_with 75
check "SIGTERM to one rank: says so" tells "stopped by a signal after step"
check "SIGTERM to one rank: goes on" train term "$grid" "${slow[@]}" --resume
check "SIGTERM to one rank: bit for bit" same term whole

start terms "$grid" "${slow[@]}"
reaches terms 3 && kill -TERM "$(a_rank terms 2)" && kill -TERM "$(a_rank terms 2)" && kill -USR1 "$(a_rank terms 2)"
check "asked three times: all save and stop" ends_with 75
check "asked three times: goes on" train terms "$grid" "${slow[@]}" --resume
check "asked three times: bit for bit" same terms whole

start usr1 "$grid" "${slow[@]}"
reaches usr1 3 && kill -USR1 "$(launcher)"
check "SIGUSR1 to mpirun: all save and stop" ends_with 75
check "SIGUSR1 to mpirun: goes on" train usr1 "$grid" "${slow[@]}" --resume
check "SIGUSR1 to mpirun: bit for bit" same usr1 whole

# Open MPI's waits as long before SIGTERM to its ranks as after it, and ends with 1 whatever they do.
if mpirun --version | grep -q 'Open MPI'; then
    export OMPI_MCA_odls_base_sigkill_timeout=4 PRTE_MCA_odls_base_sigkill_timeout=4
    long=("${slow[@]}" --set train.max_steps=100000 --set train.log_interval=1000 --set train.eval_interval=1000)
    start mpirun "$grid" "${long[@]}"
    reaches mpirun 3 && kill -TERM "$(launcher)"
    check "SIGTERM to mpirun ends the job" ends_with 1
    check "SIGTERM to mpirun: all are saved" tells "stopped by a signal after step"
    unset OMPI_MCA_odls_base_sigkill_timeout PRTE_MCA_odls_base_sigkill_timeout
    stopped=$(losses runs/mpirun | tail -n 1 | cut -d ' ' -f 1)
    long+=(--set train.max_steps=$((stopped + 20)))
    train mpirun-whole "$grid" "${long[@]}"
    check "SIGTERM to mpirun: goes on" train mpirun "$grid" "${long[@]}" --resume
    check "SIGTERM to mpirun: bit for bit" same mpirun mpirun-whole
fi

start kill "$grid" "${slow[@]}"
reaches kill $((3 + SEED % 7)) && kill -KILL "$(a_rank kill 3)"
check "SIGKILL of a rank ends the job" fails
check "SIGKILL of a rank: goes on" train kill "$grid" "${slow[@]}" --resume
check "SIGKILL of a rank: bit for bit" same kill whole

start stop "$grid" "${slow[@]}"
reaches stop $((3 + SEED % 7)) && kill -STOP "$(a_rank stop 3)"
check "SIGSTOP of a rank ends the job" fails
check "SIGSTOP of a rank: it is named" tells "gpt: rank 2 (.*): not heard from for 5 s"
check "SIGSTOP of a rank: goes on" train stop "$grid" "${slow[@]}" --resume
check "SIGSTOP of a rank: bit for bit" same stop whole

# flip PID CHECKPOINT: a bit of a weight, wherever the process has it: its learning rate is so small that it is as saved.
# Returns 77 where another process's memory may not be written.
flip() {
    python3 - "$@" <<'END'
import json, os, signal, struct, sys
pid, folder = int(sys.argv[1]), sys.argv[2]
with open(folder + "/model.safetensors.index.json") as f:
    key, name = next(x for x in json.load(f)["weight_map"].items() if x[0].endswith("wpe.weight"))
with open(folder + "/" + name, "rb") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    at = json.loads(f.read(n))[key]["data_offsets"][0]
    f.seek(8 + n + at)
    weights = f.read(64)
found = 0
try:
    memory = open(f"/proc/{pid}/mem", "r+b", 0)
except PermissionError:
    sys.exit(77)
os.kill(pid, signal.SIGSTOP)
with memory:
    for line in open(f"/proc/{pid}/maps"):
        where, rights = line.split()[:2]
        lo, hi = (int(x, 16) for x in where.split("-"))
        if rights[:2] != "rw" or "[" in line or "/" in line or hi >= 1 << 63:
            continue
        memory.seek(lo)
        here = memory.read(hi - lo).find(weights)
        if here >= 0:
            memory.seek(lo + here)
            memory.write(bytes([weights[0] ^ 1]))
            found += 1
os.kill(pid, signal.SIGCONT)
sys.exit(found == 0)
END
}
if command -v python3 >/dev/null; then
    still=("${slow[@]}" --set parallel.checksum_interval=5 --set optimizer.lr=1e-30 --set lr_schedule.min_lr=1e-30
        --set train.eval_interval=0 --set train.checkpoint_interval=0)
    train flips "2 1 1" "${still[@]}" --set train.max_steps=2
    start flips "2 1 1" "${still[@]}" --set train.max_steps=100000 --resume
    reaches flips 4
    flip "$(a_rank flips 2)" "runs/flips/$(cat runs/flips/latest)"
    flipped=$?
    [ $flipped -eq 0 ] || kill -KILL "$(a_rank flips 1)"
    if [ $flipped -eq 77 ]; then
        skipped=$((skipped + 1)) && echo "skipped a flipped bit: a rank's memory may not be written here"
    else
        check "a bit of a weight is flipped on rank 1" [ $flipped -eq 0 ]
        check "a flipped bit ends the job" fails
        check "a flipped bit: the rank is named" once "^gpt: .*step [0-9]*[05]: the weights of rank 1 differ from those of data rank 0"
    fi
else
    skipped=$((skipped + 1)) && echo "skipped a flipped bit: no python3 here"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
