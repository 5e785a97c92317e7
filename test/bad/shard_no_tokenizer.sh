echo text >x.txt
"$GPT" data shard --input x.txt --tokenizer nowhere --out d
