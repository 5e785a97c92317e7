#!/bin/sh
# Runs commands one after the other and sums up their closing lines: test/sum.sh 'COMMAND' ...
# A command that prints no "N passed, N failed, N skipped" counts as one; one that ends with an error after a
# clean count (a sanitizer's report, say) adds a failure. The only closing line printed is the total.
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
closing='[0-9]* passed, [0-9]* failed, [0-9]* skipped'
for command; do
    echo "== $command"
    began=$(date +%s)
    { sh -c "$command" 2>&1; echo "sum.sh: status $?"; } | tee "$log" |
        grep --line-buffered -av -e "^$closing\$" -e '^sum.sh: status [0-9]*$'
    read -r p f s <<-EOF
	$(awk '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5; found = 1 }
        /^sum.sh: status [0-9]+$/ { status = $3 }
        END {
            if (!found && status == 0) p++
            if (!f && status != 0) f++
            print p + 0, f + 0, s + 0
        }' "$log")
	EOF
    [ "$f" -eq 0 ] || bad="$bad
  $command: $f failed"
    [ $(($(date +%s) - began)) -lt 10 ] || echo "-- $(($(date +%s) - began)) s: $command"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ -z "$bad" ] || echo "failures:$bad"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
