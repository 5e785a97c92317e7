#!/bin/sh
# Trains, and goes on after faults: scripts/train.sh [-n RANKS] [-f HOSTFILE] [-k RESTARTS] [-d] ARGUMENTS...
#
#   -n RANKS     started by mpirun; 1: alone (1)
#   -f HOSTFILE  where: a line a node, such as "node7 slots=8"
#   -k RESTARTS  how often to start again, at most (10)
#   -d           only says what it would run
#   ARGUMENTS    of gpt train: --config FILE, --set ...
#
# A run that ends by a fault (a GPU, a node, a rank that hangs) is started again with --resume, from its newest complete
# checkpoint, after 10 seconds, then 20, 40, ... up to 10 minutes. Three ends are no faults: done (0); wrong usage or
# config (2); stopped on request with all saved (75). They are passed on.
#
# SIGTERM, SIGINT or SIGUSR1 to this script is such a request. It goes to the ranks as SIGUSR1, which mpirun and srun hand
# on to all of them on all nodes at once. SIGTERM would not do: Open MPI's mpirun waits for a second, sends SIGTERM to its
# ranks, kills after another second what has not saved by then, and ends with 1, saved or not. Where somebody sends it
# SIGTERM all the same, as who ends all processes of a job does, more time helps a large model:
# OMPI_MCA_odls_base_sigkill_timeout=30 (Open MPI 5: PRTE_MCA_...). Then each end but a good one takes up to twice that.
#
# GPT=./gpt    LAUNCH="srun --kill-on-bad-exit=1" instead of mpirun    MPIRUN_FLAGS    BACKOFF=10, the first wait
set -u
GPT=${GPT:-./gpt}
ranks=1 hosts='' restarts=10 dry=''

say() { printf 'train.sh: %s\n' "$*" >&2; }
usage() { sed -n '2,/^#   ARG/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

while :; do
    case ${1-} in
    -d) dry=1 && shift && continue ;;
    -n | -f | -k) [ $# -ge 2 ] || usage ;;
    *) break ;;
    esac
    case $1 in
    -n) ranks=$2 ;;
    -f) hosts=$2 ;;
    -k) restarts=$2 ;;
    esac
    shift 2
done
case $ranks$restarts in *[!0-9]*) usage ;; esac
[ $# -gt 0 ] || usage
[ -z "$hosts" ] || [ -f "$hosts" ] || { say "$hosts: no such file"; exit 2; }

# mpirun binds a rank to a core unless told otherwise, and passes on no variables to other nodes.
launcher() {
    [ -z "${LAUNCH-}" ] || { printf '%s' "$LAUNCH" && return; }
    [ "$ranks" -gt 1 ] || return 0
    printf 'mpirun -np %s --bind-to none' "$ranks"
    [ -z "$hosts" ] || printf ' --hostfile %s' "$hosts"
    [ "$(id -u)" -ne 0 ] || printf ' --allow-run-as-root'
    for name in $(env | sed -n 's/^\(\(NCCL\|CUDA\|OMP\|UCX\)_[A-Z0-9_]*\)=.*/\1/p' | sort); do printf ' -x %s' "$name"; done
    [ -z "${MPIRUN_FLAGS-}" ] || printf ' %s' "$MPIRUN_FLAGS"
}
launch=$(launcher)

# Runs it in a session of its own, so that a terminal's Ctrl-C reaches the ranks once: through us. Sets status.
run() {
    [ -z "$dry" ] || { echo "${launch:+$launch }$GPT train $*"; exit 0; }
    # shellcheck disable=SC2086  # the launcher is several words
    setsid $launch "$GPT" train "$@" &
    pid=$!
    [ -z "$stopping" ] || kill -USR1 "$pid" 2>/dev/null
    wait "$pid"
    status=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal to us ends `wait`, not what it waits for
        wait "$pid"
        status=$?
    done
    pid=
}

stop() {
    stopping=1
    [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null
}
stopping='' pid='' status=0
trap stop TERM INT USR1

again=0 pause=${BACKOFF:-10}
run "$@"
while :; do
    case $status in 0 | 2 | 75) exit "$status" ;; esac
    [ -z "$stopping" ] || exit "$status"
    [ "$again" -lt "$restarts" ] || { say "exit $status, after $again restarts: giving up"; exit "$status"; }
    again=$((again + 1))
    if [ "$again" -eq 1 ]; then # from now on from the newest checkpoint, and over nothing
        for word; do
            shift
            case $word in --overwrite | --resume) ;; *) set -- "$@" "$word" ;; esac
        done
        set -- --resume "$@"
    fi
    say "exit $status; restart $again of $restarts in $pause s"
    sleep "$pause" &
    wait $! # a signal ends it
    [ -z "$stopping" ] || exit 75
    pause=$((pause * 2 < 600 ? pause * 2 : 600))
    run "$@"
done
