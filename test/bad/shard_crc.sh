# damaged tokens
{
    printf '\210\330\064\001\001\000\000\000\002\000\000\000\002\000\000\000\001\000\000\000\001\000\000\000'
    head -c 1000 /dev/zero
    printf 'aabb'
} >x.bin
"$GPT" data inspect --data x.bin --verify
