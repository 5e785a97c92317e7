"$GPT" data demo --out /proc/a.jsonl
