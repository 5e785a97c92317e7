# a key that is nearly right
echo text >a.txt
"$GPT" data clean --set gopher.min_word=3 --input a.txt --out o
