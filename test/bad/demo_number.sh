"$GPT" data demo --out a.jsonl --bytes 10Q
