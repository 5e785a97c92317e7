# What cannot be read is told, counted and passed over, by each stage, and by any number of ranks the same.
story() { printf '{"text": "Story %s: one two three four five six seven eight nine ten, mail %s@example.org"}\n' "$1" "$1"; }
{
    story a
    echo '{"text": "no end'
    story b
    echo '{"title": "no text"}'
    echo '{"text": 5}'
    for i in 1 2 3 4 5 6 7 8 9; do echo "[$i]"; done
    story c
} >mixed.jsonl
for i in $(seq 2000); do story "$i $(echo "$i" | cksum)"; done | gzip >whole.jsonl.gz
head -c "$(($(wc -c <whole.jsonl.gz) / 2))" whole.jsonl.gz >cut.jsonl.gz
echo '{"text": "quite another matter than those of the stories, which this does not hold"}' >against.jsonl
for stage in dedup anonymise "decontaminate --against against.jsonl"; do
    name=${stage%% *}
    echo "== $name"
    # shellcheck disable=SC2086
    "$GPT" data $stage --input mixed.jsonl cut.jsonl.gz --out "$name" 2>&1 | grep -v 'signed\|documents\|found'
    grep -o '"problems": [0-9]*' "$name/report.json"
    # shellcheck disable=SC2086
    "$GPT" data $stage --input mixed.jsonl cut.jsonl.gz --out "$name-1" --threads 1 2>/dev/null
    for f in "$name"/*.gz; do cmp "$f" "$name-1/${f#*/}"; done
    for f in "$name"/*_000000.jsonl.gz; do gunzip -c "$f"; done | grep -c Story
done
echo "== clean"
for threads in 1 8; do
    "$GPT" data clean --input mixed.jsonl cut.jsonl.gz mixed.jsonl --out clean-$threads --threads $threads 2>/dev/null
done
cmp clean-1/report.json clean-8/report.json && sed -n '/"problems"/,$p' clean-1/report.json | cut -c 1-45
grep -v Story mixed.jsonl >bad.jsonl
"$GPT" data anonymise --input bad.jsonl --out none >log 2>&1 || echo "status $?: $(tail -n 1 log)"
[ -e none/report.json ] || echo "no report"

echo "--- a line of a gigabyte, a text of one"
story='{"text": "The ship sails over the wide sea, and the wind takes the ship to the far shore of that land."}'
echo "$story" >giga.jsonl
truncate -s 1G giga.jsonl # a hole: it takes no room on the disk
printf '\n%s\n' "$story" >>giga.jsonl
truncate -s 1G giga.txt
for command in clean anonymise; do
    "$GPT" data $command --input giga.jsonl --out giga.$command --threads 1 2>&1 | grep 'passed over'
done
"$GPT" data clean --input giga.txt --out giga.clean.txt 2>&1 | sed 's/; [0-9.]* MB.s//'
grep -c '"documents": 2,' giga.clean/report.json
gunzip -c giga.anonymise/*_000000.jsonl.gz | grep -c wind
