# three bytes a token
{
    printf '\210\330\064\001\001\000\000\000\002\000\000\000\003\000\000\000'
    head -c 1008 /dev/zero
    printf 'aabbcc'
} >x.bin
"$GPT" data inspect --data x.bin
