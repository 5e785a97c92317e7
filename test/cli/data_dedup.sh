# near-duplicates: what stays, what goes and why; threads, memory and kills do not matter
awk 'BEGIN { for (i = 0; i < 400; i++) {
    t = ""
    for (k = 0; k < 60; k++) t = t " " (k == i % 7 && i % 8 == 3 ? "other" : "w" (int(i / 8) * 7919 + k * k * 31) % 997)
    printf "{\"id\": %d, \"body\": \"%s.\", \"q\": {\"good\": %d}}\n", i, t, i % 8 } }' >all.jsonl
awk 'NR % 2' all.jsonl >a.jsonl
awk 'NR % 2 == 0' all.jsonl | gzip -n >b.jsonl.gz
printf 'One text file.\nIt is a document.\n' >c.txt
"$GPT" data dedup --input a.jsonl b.jsonl.gz c.txt --key body --out one
ls one
grep -v '"input"\|curve' one/report.json
gzip -dc one/dropped_000000.jsonl.gz | sed -n 2p | cut -d, -f3-
gzip -dc one/kept_000002.jsonl.gz
echo "--- once more: complete; other options: refused"
"$GPT" data dedup --input a.jsonl b.jsonl.gz c.txt --key body --out one
"$GPT" data dedup --input a.jsonl b.jsonl.gz c.txt --key body --out one --rows 4 || echo "exit $?"
echo "--- another number of threads, sorting through the disk, killed on the way: the same bytes"
for delay in 0.003 0.006 0.01 0.02 0.04; do
    timeout -s KILL $delay "$GPT" data dedup --input a.jsonl b.jsonl.gz c.txt --key body --out two --threads 3 --memory 1 \
        2>/dev/null
done
"$GPT" data dedup --input a.jsonl b.jsonl.gz c.txt --key body --out two --threads 3 --memory 1 2>/dev/null
diff -r one two && echo same
echo "--- the best, the longest"
"$GPT" data dedup --input a.jsonl b.jsonl.gz --key body --out best --keep score --score q.good
gzip -dc best/kept_000000.jsonl.gz best/kept_000001.jsonl.gz | sed 's/.*"good"/"good"/' | sort | uniq -c
"$GPT" data dedup --input a.jsonl b.jsonl.gz --key body --out best --keep longest --overwrite
