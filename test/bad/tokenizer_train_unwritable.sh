echo text >a.txt
: >t
$GPT tokenizer train --input a.txt --vocab-size 260 --out t
