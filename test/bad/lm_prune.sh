echo "a b" >x.txt
"$GPT" data lm train --input x.txt --out m --prune 0 2 1
