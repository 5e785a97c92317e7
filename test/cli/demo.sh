# stories from the grammar: documents by number, files plain and gzip'd, the exact entropy
digits() { sed 's/\(\.[0-9]\{9\}\)[0-9]*/\1/g'; } # the last ones are the C library's
"$GPT" data demo --docs 2 --out a.jsonl && digits <a.jsonl
echo "--- the same documents, whatever the file"
"$GPT" data demo --out b.jsonl.gz --bytes 1K && gzip -dc b.jsonl.gz | head -n 2 | cmp - a.jsonl
"$GPT" data demo --out c.jsonl --docs 2 --seed 1
cmp -s a.jsonl c.jsonl || echo "another seed, other documents"
"$GPT" data demo --out d.jsonl && wc -l <d.jsonl
ls
"$GPT" data demo --entropy | digits
