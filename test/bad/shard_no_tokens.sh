# a header and nothing else
{
    printf '\210\330\064\001\001\000\000\000\000\000\000\000'
    head -c 1012 /dev/zero
    printf ''
} >x.bin
"$GPT" data inspect --data x.bin
