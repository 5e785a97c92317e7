# an n-gram model: trained, asked, the same for any memory and number of threads
printf 'c\na\nb\n\nb\na  b\n' >toy.txt
"$GPT" data lm train --input toy.txt --out toy --order 2 --unit tokens 2>/dev/null
printf '{"body": "a b"}\n{"body": "zebra"}\n{"body": ""}\n{"body": "a b\\nzebra"}\n' >docs.jsonl
echo "--- perplexity, words, unknown words"
"$GPT" data lm score --model toy --input docs.jsonl toy.txt --key body
echo "--- a real text"
gzip -c <"$ROOT/test/golden/tokenizer/corpus.txt" >corpus.txt.gz
"$GPT" data lm train --input corpus.txt.gz --out one --order 3 --threads 1 2>/dev/null
"$GPT" data lm train --input corpus.txt.gz --out two --order 3 --threads 3 --memory 1K >/dev/null 2>&1
cmp one/ngram.bin two/ngram.bin && ls two
"$GPT" data lm train --input corpus.txt.gz --out pruned --order 3 --prune 0 0 1 2>/dev/null
