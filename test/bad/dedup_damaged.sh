# a result of an earlier stage that has changed on the disk
printf "{\"text\": \"a b c d e f\"}\n{\"text\": 3}\n" >x.jsonl
"$GPT" data dedup --input x.jsonl --out d 2>/dev/null
head -c 400 /dev/zero >d/work/signatures_000000
"$GPT" data dedup --input x.jsonl --out d
