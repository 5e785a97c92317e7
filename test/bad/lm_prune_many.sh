echo "a b" >x.txt
"$GPT" data lm train --input x.txt --out m --order 2 --prune 0 0 1
