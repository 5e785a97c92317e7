# one bit of the table
echo "a b" >x.txt
"$GPT" data lm train --input x.txt --out m >/dev/null 2>&1
printf "\001" | dd of=m/ngram.bin bs=1 seek=560 conv=notrunc 2>/dev/null
"$GPT" data lm score --model m --input x.txt
