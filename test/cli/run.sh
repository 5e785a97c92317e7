#!/bin/sh
# Runs commands as a user types them and compares what they print: test/cli/run.sh [--bless] [NAME...]
#
#   test/cli/NAME.sh    runs in an empty folder with $GPT (the binary) and $ROOT (the repository); what it writes to
#                       stdout and stderr must equal NAME.expect, line by line
#   test/bad/NAME.sh    the same, but one command that must be refused: its exit status, 1 or 2, is the last line
#
# A line of an .expect file may be a shell pattern ("step * loss *"). --bless writes the .expect files, and keeps
# a pattern that still fits its line. A script that prints "SKIP: why" is counted as skipped. A script that ends
# with a status other than 0 gets "exit N" as its last line. What a program that was built with CUDA says where there
# is no GPU is left out. Knobs: GPT, TEST_TIMEOUT (seconds a script).
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
GPT=${GPT:-$ROOT/gpt}
case $GPT in /*) ;; *) GPT=$PWD/$GPT ;; esac
export ROOT GPT LC_ALL=C
[ -x "$GPT" ] || { echo "test/cli/run.sh: no program at $GPT; run make first" && exit 2; }

scratch=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
out=$scratch/out
passed=0 failed=0 skipped=0 bless=

# Does the text of file $1 fit the lines of the .expect file $2?
fits() {
    while IFS= read -r line <&3 || [ -n "$line" ]; do
        IFS= read -r want <&4 || return 1
        # shellcheck disable=SC2254  # a pattern is what we want here
        [ "$line" = "$want" ] || case $line in $want) ;; *) return 1 ;; esac
    done 3<"$1" 4<"$2"
    [ "$(wc -l <"$1")" -eq "$(wc -l <"$2")" ]
}

# The new text of file $1, with each line that the old .expect file $2 already describes left as it is there.
merge() {
    while IFS= read -r line <&3; do
        IFS= read -r want <&4 || want=$line
        # shellcheck disable=SC2254
        case $line in $want) printf '%s\n' "$want" ;; *) printf '%s\n' "$line" ;; esac
    done 3<"$1" 4<"$2"
}

# Runs script $1 in a folder of its own; what it printed goes to $out, with the folder's path taken out.
run_script() {
    rm -rf "$scratch/box" && mkdir "$scratch/box"
    (cd "$scratch/box" && timeout -k 5 "${TEST_TIMEOUT:-60}" sh "$1") >"$scratch/raw" 2>&1 </dev/null
    status=$?
    sed -e "s|$scratch/box|SCRATCH|g" -e "s|$GPT|gpt|g" -e "s|$ROOT|ROOT|g" \
        -e '/^gpt: on the CPU: no GPU/d' "$scratch/raw" >"$out"
    [ -z "$(tail -c 1 "$out")" ] || echo >>"$out"
    case $1:$status in */bad/*:* | *:[!0]*) echo "exit $status" >>"$out" ;; esac
}

verdict() {
    case $1 in
    FAILED) failed=$((failed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
    *) passed=$((passed + 1)) ;;
    esac
    printf '%-7s %s%s\n' "$1" "$2" "${3:+: $3}"
}

run_test() {
    name=${1#"$ROOT/test/"} name=${name%.sh} expect=${1%.sh}.expect
    run_script "$1"
    why=$(sed -n 's/^SKIP: //p' "$out" | head -n 1)
    [ -n "$why" ] && verdict skipped "$name" "$why" && return
    case $name:$status in
    bad/*:[12]) ;;
    bad/*) cat "$out" && verdict FAILED "$name" "a refused input must end with 1 or 2, not $status" && return ;;
    *:124 | *:137) cat "$out" && verdict FAILED "$name" "no end after ${TEST_TIMEOUT:-60} seconds" && return ;;
    esac
    if [ -n "$bless" ]; then
        [ ! -f "$expect" ] || { merge "$out" "$expect" >"$scratch/merged" && mv "$scratch/merged" "$out"; }
        cp "$out" "$expect" && verdict blessed "$name"
    elif [ ! -f "$expect" ]; then
        cat "$out" && verdict FAILED "$name" "no .expect file; if this is right: test/cli/run.sh --bless ${name#*/}"
    elif fits "$out" "$expect"; then
        verdict ok "$name"
    else
        merge "$out" "$expect" | diff -u --label expected --label got "$expect" -
        verdict FAILED "$name"
    fi
}

[ "${1-}" = --bless ] && bless=1 && shift
[ $# -gt 0 ] || set -- '*'
for pattern; do
    found=
    # shellcheck disable=SC2231  # NAME may be a pattern
    for script in "$ROOT"/test/cli/$pattern.sh "$ROOT"/test/bad/$pattern.sh; do
        [ -f "$script" ] || continue
        [ "$script" = "$ROOT/test/cli/run.sh" ] && continue
        found=1
        run_test "$script"
    done
    [ -n "$found" ] || verdict FAILED "$pattern" "no test has such a name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
