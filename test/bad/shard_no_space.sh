# a limit on the size of files stands in for a full disk; nothing is left behind
awk 'BEGIN { for (i = 0; i < 2000; i++) print "one two three", i }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 260 --out tok 2>/dev/null
trap '' XFSZ
ulimit -f 20
"$GPT" data shard --input x.txt --tokenizer tok --out d
status=$?
ls -A d
exit $status
