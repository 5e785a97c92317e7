# evaluation texts too short to be found again
echo "{\"text\": \"a\"}" >x.jsonl
"$GPT" data decontaminate --input x.jsonl --against x.jsonl --out d
