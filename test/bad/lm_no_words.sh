# a text of punctuation has no words
echo "... --- ..." >x.txt
"$GPT" data lm train --input x.txt --out m
