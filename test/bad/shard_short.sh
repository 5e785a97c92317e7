# three tokens are promised, two are there
{
    printf '\210\330\064\001\001\000\000\000\003\000\000\000'
    head -c 1012 /dev/zero
    printf 'aabb'
} >x.bin
"$GPT" data inspect --data x.bin
