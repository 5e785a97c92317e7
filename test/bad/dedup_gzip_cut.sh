# a gzip file that ends too early
awk "BEGIN { srand(1); for (i = 0; i < 9000; i++) print \"{\\\"text\\\": \\\"\" rand() \" b c d e f g\\\"}\" }" | gzip -c | head -c 20000 >x.jsonl.gz
"$GPT" data dedup --input x.jsonl.gz --out d
