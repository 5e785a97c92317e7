# llm.c's HellaSwag file is not a token shard
{
    printf '\212\330\064\001\001\000\000\000\002\000\000\000'
    head -c 1012 /dev/zero
    printf 'aabb'
} >x.bin
"$GPT" data inspect --data x.bin
