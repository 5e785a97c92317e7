# a version to come
{
    printf '\210\330\064\001\002\000\000\000\002\000\000\000'
    head -c 1012 /dev/zero
    printf 'aabb'
} >x.bin
"$GPT" data inspect --data x.bin
