# Mixing by two ranks: the same rows, losses and weights as by one process, however the ranks share the work.
. "$ROOT/test/cli/three_sources.inc"
near() { awk 'NR == FNR { a[FNR] = $1; n = FNR; next } { d = $1 - a[FNR]; if (d > 1e-4 || d < -1e-4) bad = 1 } END { exit bad || FNR != n }' "$@"; }
numbers() { found "$1" | grep -o '"\(weight\|loss\)": [0-9.e-]*' | sed 's/.*: //'; }
# with RULE GRID: RULE's rows and numbers as one process left them in want_rows and want_numbers
with() {
    "$ROOT/test/parallel/run.sh" 2 "$GPT" train --config config.json --set data.mixing="$1" name="$1-$2" "parallel.$2" >log 2>&1 || {
        grep -q 'no mpirun here\|built without MPI' log && echo "SKIP: no mpirun here, or built without MPI" && exit
        cat log
    }
    rows "$1-$2" | cmp - want_rows && numbers "$1-$2" | near want_numbers - && echo "$1: $2 as one process"
}
mix static name=static # what doremi compares with
for rule in validation exp3 doremi; do
    mix "$rule" name="$rule"
    rows "$rule" >want_rows && numbers "$rule" >want_numbers
    with "$rule" data=2
done
with doremi pipeline=2
with doremi tensor=2
