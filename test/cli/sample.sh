# one seed, one text: however it is computed; prompts from everywhere; stop strings; valid UTF-8
. "$ROOT/test/cli/trained_model.inc"
sample() { "$GPT" sample --model run --max-tokens 40 "$@"; }
same() { cmp "$1" "$2" && echo "$1 = $2"; }

sample --prompt "Once upon" --temperature 0 --ignore-eot >greedy
sample --prompt "Once upon" --temperature 0 --ignore-eot --precision fp32 --threads 1 >greedy32
sample --prompt "Once upon" --temperature 0 --ignore-eot --precision fp32 --no-cache --threads 2 >uncached32
same greedy32 uncached32
sample --prompt "Once upon" --temperature 0 --ignore-eot --no-cache >uncached
same greedy uncached

sample --prompt "Once upon" --temperature 1 --seed 7 >one
sample --prompt "Once upon" --temperature 1 --seed 7 --threads 1 >threads
sample --prompt "Once upon" --temperature 1 --seed 8 >other
same one threads
cmp -s one other || echo "another seed, another text"
printf 'Once upon' >prompt.txt
sample --prompt-file prompt.txt --temperature 1 --seed 7 >file
printf 'Once upon' | sample --prompt - --temperature 1 --seed 7 >stdin
printf 'Once upon' | sample --prompt-file - --temperature 1 --seed 7 >stdin2
same one file
same one stdin
same one stdin2
sample --prompt "<|endoftext|>" --temperature 1 --seed 7 >eot
sample --temperature 1 --seed 7 >nothing
same eot nothing

echo "--- a batch: the first of four is the one alone"
sample --prompt "Once upon" --temperature 1 --seed 7 --samples 4 >four
grep -a '^---- sample' four
sed -n '2,/^---- sample 2/p' four | sed '$d' >first
same one first

echo "--- whole characters, whatever the model says"
for seed in 1 2 3 4 5 6 7 8; do sample --temperature 2 --seed $seed --ignore-eot; done >wild
iconv -f UTF-8 -t UTF-8 wild >/dev/null && echo "valid UTF-8"
grep -q "$(printf '\357\277\275')" wild && echo "broken ones became U+FFFD"

echo "--- nothing of a stop string"
stop=$(grep -ao '[a-z ][a-z ][a-z ]*' greedy | head -n 1)
sample --prompt "Once upon" --temperature 0 --ignore-eot --stop never "$stop" >stopped
grep -qF "$stop" stopped || echo "not there"

echo "--- a dialogue; statistics"
printf 'Hello.\nWho are you?\n' | sample --interactive --temperature 1 --stats >answers
[ -s answers ] && echo answered
