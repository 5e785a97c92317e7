# a limit on the size of files stands in for a full disk; nothing is left behind
awk "BEGIN { for (i = 0; i < 9000; i++) print i, i * 7, i * 13 }" >x.txt
trap "" XFSZ
ulimit -f 20
"$GPT" data lm train --input x.txt --out m --memory 1K
status=$?
ls -A m
exit $status
