# an evaluation set that is not JSON
echo "{\"text\": \"a\"}" >x.jsonl
echo "{\"text\": \"a" >eval.jsonl
"$GPT" data decontaminate --input x.jsonl --against eval.jsonl --out d
