echo text >a.txt
$GPT tokenizer train --input a.txt --out t
