echo "{\"text\": \"a b\"}" >x.jsonl
echo "{\"text\": \"c d\"}" >y.jsonl
"$GPT" data classifier train --positive x.jsonl --negative y.jsonl --held-out 0 --buckets 100 --out c >/dev/null 2>&1
printf "\001" | dd of=c/classifier.bin bs=1 seek=300 conv=notrunc 2>/dev/null
"$GPT" data classifier score --model c --input x.jsonl
