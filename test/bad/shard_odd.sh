# half a token too much
{
    printf '\210\330\064\001\001\000\000\000\002\000\000\000'
    head -c 1012 /dev/zero
    printf 'aabbc'
} >x.bin
"$GPT" data inspect --data x.bin
