# nothing says what is in it
echo text >a.md
"$GPT" data clean --input a.md --out o
