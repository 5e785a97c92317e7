# an evaluation set that is not there
echo "{\"text\": \"a\"}" >x.jsonl
"$GPT" data decontaminate --input x.jsonl --against eval.jsonl --out d
