# the best of what?
echo "{\"text\": \"a\"}" >x.jsonl
"$GPT" data dedup --input x.jsonl --out d --keep score
