# the download stopped
awk 'BEGIN { for (i = 0; i < 200; i++) print "one two three", i }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 260 --out tok 2>/dev/null
gzip -n x.txt
head -c 100 x.txt.gz >y.txt.gz
"$GPT" data shard --input y.txt.gz --tokenizer tok --out d
