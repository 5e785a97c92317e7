# learn, encode, decode; the ids are those of test/golden/tokenizer (less one: there <|endoftext|> is first)
golden=$ROOT/test/golden/tokenizer
"$GPT" tokenizer train --input "$golden/corpus.txt" --vocab-size 400 --out ours
ls ours
cmp ours/merges.txt "$golden/merges.txt" && echo "the merges of Hugging Face"
echo "--- there and back"
printf "it's we'll, the\n\n  1984 \377" | "$GPT" tokenizer encode --tokenizer ours | tee ids
"$GPT" tokenizer decode --tokenizer ours <ids | od -An -c
"$GPT" tokenizer encode --tokenizer ours --input "$golden/corpus.txt" >ids
"$GPT" tokenizer decode --tokenizer ours --input ids | cmp - "$golden/corpus.txt" && wc -w <ids
"$GPT" tokenizer encode --tokenizer ours/tokenizer.json --input "$golden/corpus.txt" --count
echo "--- special tokens"
printf '<|endoftext|>the' | "$GPT" tokenizer encode --tokenizer ours
printf '<|endoftext|>the' | "$GPT" tokenizer encode --tokenizer ours --special text
echo "--- nothing"
"$GPT" tokenizer encode --tokenizer ours </dev/null
"$GPT" tokenizer decode --tokenizer ours </dev/null
"$GPT" tokenizer encode --tokenizer ours --count </dev/null
echo "--- the other spelling, more than there is to learn, several files, a key"
printf '{"body": "aaaa bbbb"}\n{"body": "aaaa"}\n' | gzip >x.jsonl.gz
echo "bbbb" >y.txt
"$GPT" tokenizer train --input x.jsonl.gz y.txt --key body --vocab-size 32K --out small --merges pairs --threads 3
cat small/merges.txt
tail -n 7 small/tokenizer.json
"$GPT" tokenizer encode --tokenizer small --input y.txt
