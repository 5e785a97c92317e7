# the download stopped in the header
head -c 1000 /dev/zero >x.bin
"$GPT" data inspect --data x.bin
