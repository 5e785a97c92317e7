echo "{\"body\": \"text\"}" >a.jsonl
$GPT tokenizer train --input a.jsonl --vocab-size 300 --out t
