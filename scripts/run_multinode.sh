#!/bin/sh
# Trains on several nodes: scripts/run_multinode.sh [-d] HOSTFILE ARGUMENTS...
#
#   -d          only says what it would run
#   HOSTFILE    a line a node, "node7 slots=8": as many ranks as it has GPUs
#   ARGUMENTS   of gpt train: --config FILE, --set ...
#
# Run it on the first of them, in a folder that all nodes share (binary, config, data, runs), with ssh between them that
# asks for no password. First it looks whether each node has this very binary, this folder, and as many GPUs as slots.
# Faults, restarts and stopping are as in scripts/train.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
GPT=${GPT:-./gpt} SSH=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10}
dry=

say() { printf 'run_multinode.sh: %s\n' "$*" >&2; }
[ "${1-}" != -d ] || { dry=1; shift; }
[ $# -ge 2 ] || { sed -n '2,/^#   ARG/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
hosts=$1
shift
[ -f "$hosts" ] || { say "$hosts: no such file; a line a node, such as: node7 slots=8"; exit 2; }

# "node slots" for each line
nodes() { sed -e 's/#.*//' -e '/^ *$/d' -e 's/^ *\([^ ]*\).*slots *= *\([0-9]*\).*/\1 \2/' "$hosts"; }
nodes | grep -vE '^[^ ]+ [0-9]+$' >&2 && { say "$hosts: each line must be a node and its slots, such as: node7 slots=8"; exit 2; }
ranks=$(nodes | awk '{ n += $2 } END { print n + 0 }')
[ "$ranks" -gt 0 ] || { say "$hosts: names no node"; exit 2; }

sum=$(cksum <"$GPT")
nodes | while read -r node slots; do
    look="cd '$PWD' && cksum <'$GPT' && { [ ! -e /dev/nvidiactl ] || nvidia-smi -L | wc -l; }"
    if [ -n "$dry" ]; then
        echo "$SSH $node $look"
        continue
    fi
    # shellcheck disable=SC2086  # several words
    seen=$($SSH "$node" "$look" </dev/null) || { say "$node: cannot be reached, or has no $PWD"; exit 1; }
    [ "${seen%%
*}" = "$sum" ] || { say "$node: another $GPT than here"; exit 1; }
    gpus=${seen#"$sum"}
    [ -z "$gpus" ] || [ "$gpus" -ge "$slots" ] || { say "$node: $slots slots, but$gpus GPUs"; exit 1; }
done
# shellcheck disable=SC2086  # -d or nothing
exec "$here/train.sh" ${dry:+-d} -n "$ranks" -f "$hosts" "$@"
