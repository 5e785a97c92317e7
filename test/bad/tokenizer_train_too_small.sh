echo text >a.txt
$GPT tokenizer train --input a.txt --vocab-size 256 --out t
