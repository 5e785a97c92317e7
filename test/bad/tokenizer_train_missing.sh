$GPT tokenizer train --input a.txt --vocab-size 300 --out t
