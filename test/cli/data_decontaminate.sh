# documents that hold pieces of evaluation sets: dropped, or the pieces cut out
awk 'BEGIN { for (i = 0; i < 30; i++) {
    q = "q" i; for (k = 0; k < 15; k++) q = q " " (i * 17 + k * k * 7) % 211
    printf "{\"question\": \"%s?\", \"answer\": {\"text\": \"no\"}}\n", q >"eval.jsonl"
    t = ""; for (k = 0; k < 300; k++) t = t " w" (i * 31 + k * k * 13) % 1009
    if (i % 3 == 0) t = t ": " toupper(q) "." t
    printf "{\"id\": %d, \"body\": \"%s\"}\n", i, t >"a.jsonl" } }'
head -n 15 a.jsonl | gzip >b.jsonl.gz
"$GPT" data decontaminate --input a.jsonl b.jsonl.gz --against eval.jsonl --key body --out one --threads 1
cat one/report.json
gzip -dc one/dropped_000001.jsonl.gz | sed 's/"body": "[^"]*"/"body": .../'
"$GPT" data decontaminate --input a.jsonl b.jsonl.gz --against eval.jsonl --key body --out one
echo "--- threads and kills do not matter"
for delay in 0.002 0.005 0.01 0.02; do
    timeout -s KILL $delay "$GPT" data decontaminate --input a.jsonl b.jsonl.gz --against eval.jsonl --key body \
        --out two --threads 3 2>/dev/null
done
"$GPT" data decontaminate --input a.jsonl b.jsonl.gz --against eval.jsonl --key body --out two --threads 3 2>/dev/null
diff -r one two && echo same
echo "--- cut"
"$GPT" data decontaminate --input a.jsonl --against eval.jsonl --key body --out three --cut
gzip -dc three/kept_000000.jsonl.gz | sed -n 's/"body": "\([^"]*\)"/length \1/p' | awk '/piece/ { print $1, $2, length, $NF }' | head -n 4
