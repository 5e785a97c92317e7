: >x.bin
"$GPT" data inspect --data x.bin
