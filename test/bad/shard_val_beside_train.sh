# train on validation shards? name those you mean
awk 'BEGIN { for (i = 0; i < 200; i++) print "one two three", i }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 260 --out tok 2>/dev/null
"$GPT" data shard --input x.txt --tokenizer tok --out d --val-fraction 0.1 >/dev/null 2>&1
"$GPT" data inspect --data d
