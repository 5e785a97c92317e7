# text to shards, and a look inside
awk 'BEGIN { for (i = 0; i < 3000; i++) print "one two three", i % 100 }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 300 --out tok
"$GPT" data shard --input x.txt --tokenizer tok --out one --val-fraction 0.1
"$GPT" data inspect --data "one/train_*.bin" --tokenizer tok --documents 0 --verify
"$GPT" data inspect --data one/val_000000.bin --documents 0
echo "--- documents, two kinds of input, small shards; threads do not matter"
awk 'BEGIN { for (i = 0; i < 500; i++) printf "{\"id\": %d, \"body\": \"one two\\nthree %d\"}\n", i, i % 100 }' | gzip >y.jsonl.gz
for threads in 1 4; do
    "$GPT" data shard --input y.jsonl.gz x.txt --key body --tokenizer tok --out two --shard-tokens 5K \
        --val-fraction 0.01 --overwrite --threads $threads
    cat two/*.bin two/*.json | cksum
done
ls two
"$GPT" data inspect --data "two/train_*.bin" --tokenizer tok --documents 2 --verify
"$GPT" data inspect --data two/val_000000.bin --tokenizer tok --documents 1
echo "--- documents as they stand in text files: what was taken out, and why"
printf '\357\273\277{"id": 1, "body": "one\\ntwo", "reason": "none"}\n{"body": ""}\n' >z.jsonl
"$GPT" data inspect --data z.jsonl --key body --documents 1 --verify | sed 's/^\xef\xbb\xbf/BOM /'
awk 'BEGIN { for (i = 0; i < 300; i++) printf "caf\303\251 " }' | gzip -n >long.txt.gz
"$GPT" data inspect --data long.txt.gz | tail -c 20
"$GPT" data inspect --data z.jsonl --documents 1 || echo "exit $?"
"$GPT" data inspect --data z.jsonl --tokenizer tok || echo "exit $?"
