# made with a larger vocabulary than the tokenizer at hand
awk 'BEGIN { for (i = 0; i < 200; i++) print "one two three", i }' >x.txt
"$GPT" tokenizer train --input x.txt --vocab-size 260 --out tok 2>/dev/null
{
    printf '\210\330\064\001\001\000\000\000\002\000\000\000'
    head -c 1012 /dev/zero
    printf '\003\001\004\001'
} >x.bin
"$GPT" data inspect --data x.bin --tokenizer tok --verify
