# a number of tokens that is right modulo 2^64
{
    printf '\210\330\064\001\001\000\000\000\000\000\000\000\004\000\000\000\000\000\000\000\000\000\000\000\001\000\000\000\000\000\000\100'
    head -c 992 /dev/zero
    printf 'aabb'
} >x.bin
"$GPT" data inspect --data x.bin
