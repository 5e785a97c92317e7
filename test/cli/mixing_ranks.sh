# Mixing by two ranks: the same rows, losses and weights as by one process, however the ranks share the work.
. "$ROOT/test/cli/three_sources.inc"
mix static name=static
"$ROOT/test/parallel/run.sh" 2 "$GPT" train --config config.json --set name=probe train.max_steps=1 >log 2>&1
grep -q 'no mpirun here\|built without MPI' log && echo "SKIP: no mpirun here, or built without MPI" && exit
near() { awk 'NR == FNR { a[FNR] = $1; n = FNR; next } { d = $1 - a[FNR]; if (d > 1e-4 || d < -1e-4) bad = 1 } END { exit bad || FNR != n }' "$@"; }
numbers() { found "$1" | grep -o '"\(weight\|loss\)": [0-9.e-]*' | sed 's/.*: //'; }
for rule in validation doremi exp3; do
    mix "$rule" name="$rule"
    rows "$rule" >want_rows && numbers "$rule" >want_numbers
    for grid in data=2 pipeline=2 tensor=2; do
        "$ROOT/test/parallel/run.sh" 2 "$GPT" train --config config.json --set data.mixing="$rule" name="$rule"-$grid \
            "parallel.$grid" >log 2>&1 || cat log
        rows "$rule"-$grid | cmp - want_rows && numbers "$rule"-$grid | near want_numbers - && echo "$rule: $grid as one process"
    done
done
