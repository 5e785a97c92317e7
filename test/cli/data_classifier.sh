# a classifier of one label, of several, and the scores of documents
awk 'BEGIN { for (i = 0; i < 400; i++) print "{\"text\": \"a fine day number " i " in the garden of roses\"}" }' >good.jsonl
awk 'BEGIN { for (i = 0; i < 400; i++) print "{\"text\": \"buy now " i " cheap watches click here\"}" }' >bad.jsonl
awk 'BEGIN { for (i = 0; i < 400; i++) print "{\"text\": \"int main void return " i "\"}" }' >code.jsonl
"$GPT" data classifier train --positive good.jsonl --negative bad.jsonl code.jsonl --out c --buckets 64K \
    --held-out 0.2 2>/dev/null
printf 'roses in the garden\n' >x.txt
printf '{"text": "click here for cheap watches"}\n{"text": "return void"}\n{"text": ""}\n' >y.jsonl
"$GPT" data classifier score --model c --input x.txt y.jsonl |
    awk '{ print ($1 > 0.6 ? "yes" : $1 < 0.2 ? "no" : "who knows"), $2 }'
echo "--- topics"
"$GPT" data classifier train --label good=good.jsonl spam=bad.jsonl code=code.jsonl --out t --buckets 64K \
    --threads 1 2>/dev/null | grep -v scores
"$GPT" data classifier score --model t --input x.txt y.jsonl |
    awk 'NR == 1 { print; next } { print ($1 > 0.6), ($2 > 0.6), ($3 > 0.6), $4 }'
"$GPT" data classifier train --label good=good.jsonl spam=bad.jsonl code=code.jsonl --out t2 --buckets 64K \
    --threads 2 >/dev/null 2>&1
cmp t/classifier.bin t2/classifier.bin && ls t2
