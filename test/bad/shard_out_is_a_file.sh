awk 'BEGIN { for (i = 0; i < 200; i++) print "one two three", i }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 260 --out tok 2>/dev/null
"$GPT" data shard --input x.txt --tokenizer tok --out x.txt
