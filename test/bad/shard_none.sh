mkdir d
echo text >d/readme.txt
"$GPT" data inspect --data d
