"$GPT" data demo --out a.jsonl --seed -1
