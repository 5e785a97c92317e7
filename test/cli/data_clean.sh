# Raw files of each kind to clean documents; the result depends on neither threads nor on having been killed.
prose='The committee met on Tuesday to discuss the budget for the coming year, and it was agreed that the
proposal should be sent back. Several members said they would have preferred a shorter text! Others
were not so sure about that. "We must be careful with the money of the people," said the chairman.
Nobody knew what to answer to him. The meeting then ended with a vote on the new roof of the hall.'
printf '%s\n' "$prose" >a.txt
printf '<html><head><title>no</title></head><body><nav><a href=x>Home</a></nav><p>%s</p><script>no()</script></body></html>' \
    "$(echo "$prose" | sed 's/committee/council/')" >b.html
printf '{"text": "%s"}\n{"text": "too short"}\nnot json\n{"text": "caf\\u00c3\\u00a9 %s"}\n' \
    "$(echo "$prose" | tr '\n"' "  ")" "$(echo "$prose" | tr '\n"' "  ")" | gzip -n >c.jsonl.gz
body=$(echo "$prose" | sed 's/Tuesday/Friday/')
printf 'WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.b/c\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n' \
    "${#body}" "$body" >d.wet
cp a.txt e.txt # the same document once more
show() { zcat "$1"/clean_*.gz | sed 's/"scores.*//' | cut -c 1-60,390-600; }

"$GPT" data clean --config "$ROOT/configs/clean.json" --input . --out one --threads 1 --set input.unit=600 2>&1 | sed 's/; [0-9.]* MB.s//'
show one
echo "dropped:"
zcat one/dropped_*.gz | grep -o '"reason": "[a-z_.]*"'
ls one

# With eight threads; then killed at one moment after the other.
again() { # folder, command before it...
    out=$1
    shift
    "$@" "$GPT" data clean --config "$ROOT/configs/clean.json" --input . --out "$out" --set input.unit=600 2>/dev/null
}
mkdir run && mv a.txt b.html c.jsonl.gz d.wet e.txt run && cd run && again ../two env OMP_NUM_THREADS=8
for t in 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1 0.15 0.2; do again ../three timeout -s KILL $t; done
again ../three env
for f in ../one/*.gz ../one/report.json; do
    cmp "$f" ../two/"${f##*/}" && cmp "$f" ../three/"${f##*/}" || exit
done
echo "all the same"
grep -o 'It took .*: .* MB/s' ../two/report.html | sed 's/[0-9][0-9.]*/N/g'
mkdir -p ../five/work # as an earlier call leaves it
"$GPT" data clean --config "$ROOT/configs/clean.json" --input . --out ../five
grep -o 'its speed is not known' ../five/report.html
"$GPT" data clean --config "$ROOT/configs/clean.json" --input . --out ../two --set input.unit=600
"$GPT" data clean --input a.txt --out ../two
