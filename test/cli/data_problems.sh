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
grep -v Story mixed.jsonl >bad.jsonl
"$GPT" data anonymise --input bad.jsonl --out none >log 2>&1 || echo "status $?: $(tail -n 1 log)"
[ -e none/report.json ] || echo "no report"
