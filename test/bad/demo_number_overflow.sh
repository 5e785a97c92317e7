"$GPT" data demo --out a.jsonl --docs 99999999999999G
