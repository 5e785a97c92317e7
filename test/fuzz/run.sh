#!/bin/sh
# Runs each fuzz target for FUZZ_SECONDS (60), two at a time: test/fuzz/run.sh FOLDER-OF-TARGETS. A crash leaves
# its input in FOLDER/TARGET.found/. A target NAME.dict beside NAME.c is its dictionary.
# shellcheck disable=SC2016  # the script in `one` is for the inner shell
here=$(cd "$(dirname "$0")" && pwd)
cd "$1" || exit 2
one='
    name=$(basename "$2")
    mkdir -p "$name.corpus" "$name.found"
    set -- "$1" "./$name" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=16384 -rss_limit_mb=3000 \
        -artifact_prefix="$name.found/" "$name.corpus"
    [ -f "$1/$name.dict" ] && set -- "$@" -dict="$1/$name.dict"
    shift
    if "$@" >"$name.log" 2>&1; then echo "ok      $name: $(sed -n "s/^Done //p" "$name.log")"
    else tail -n 40 "$name.log"; echo "FAILED  $name"; fi'
list=$(for target in fuzz_*; do [ -f "$target" ] && [ -x "$target" ] && echo "$target"; done)
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # one word a target
printf '%s\n' $list | OMP_NUM_THREADS=1 xargs -P 2 -I{} sh -c "$one" sh "$here" {} | tee "$log"
failed=$(grep -c '^FAILED' "$log")
echo "$(grep -c '^ok ' "$log") passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
