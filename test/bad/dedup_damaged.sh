# a result of an earlier stage that has changed on the disk
echo '{"text": 3}' >x.jsonl # no document, so the job does not end
"$GPT" data dedup --input x.jsonl --out d 2>/dev/null
head -c 400 /dev/zero >d/work/signatures_000000
"$GPT" data dedup --input x.jsonl --out d
