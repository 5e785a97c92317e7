echo "{\"text\": \"a b\"}" >x.jsonl
"$GPT" data classifier train --positive x.jsonl --out c
