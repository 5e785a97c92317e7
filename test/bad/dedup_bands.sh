# more permutations than there are
echo "{\"text\": \"a\"}" >x.jsonl
"$GPT" data dedup --input x.jsonl --out d --bands 100 --rows 20
