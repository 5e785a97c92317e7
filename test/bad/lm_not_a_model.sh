echo "a b" >x.txt
mkdir m && head -c 4000 /dev/zero >m/ngram.bin
"$GPT" data lm score --model m --input x.txt
