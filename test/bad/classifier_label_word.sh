"$GPT" data classifier train --label x.jsonl --out c
