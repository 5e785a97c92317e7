#!/bin/sh
# Runs commands one after the other and sums up their closing lines: test/sum.sh 'COMMAND' ...
# A command that prints no "N passed, N failed, N skipped" counts as one; one that ends with an error after a
# clean count (a sanitizer's report, say) adds a failure. The only closing line printed is the total.
passed=0 failed=0 skipped=0
counts=$(mktemp) || exit 1
trap 'rm -f "$counts"' EXIT
for command; do
    echo "== $command"
    began=$(date +%s)
    { sh -c "$command" 2>&1; echo "sum.sh: status $?"; } | awk -v counts="$counts" '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5; found = 1; next }
        /^sum.sh: status [0-9]+$/ { status = $3; next }
        { print; fflush() }
        END {
            if (!found && status == 0) p++
            if (!f && status != 0) f++
            print p + 0, f + 0, s + 0 > counts
        }'
    read -r p f s <"$counts"
    [ "$f" -eq 0 ] || bad="$bad
  $command: $f failed"
    [ $(($(date +%s) - began)) -lt 10 ] || echo "-- $(($(date +%s) - began)) s: $command"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ -z "$bad" ] || echo "failures:$bad"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
