# Documents by how well a GPT expects them: a story, its words in another order, letters; in batches as one by one.
. "$ROOT/test/cli/storyteller.inc"
"$GPT" data demo --out stories.jsonl --bytes 20K --seed 5
{
    cat stories.jsonl
    garble stories.jsonl
    echo '{"text": ""}'
    echo '{"text": 5}'
} >all.jsonl
"$GPT" data perplexity --model run --input all.jsonl --out free 2>&1 | sed 's/; [0-9.]* documents a second//' | grep -v 'cpu:\|model:\|memory:'
grep -v '"model"\|by_perplexity' free/report.json
values() { gunzip -c "$@" | sed -n 's/.*"lm_perplexity": \([0-9][0-9.]*\).*/\1/p'; }
values free/kept_*.gz | awk -v n="$(wc -l <stories.jsonl)" '{ if (NR <= n) a[NR] = $1; else worse += $1 > a[NR - n] } END { print (worse > 0.9 * n && NR == 2 * n ? "worse" : worse " of " n " get worse") }'

echo "--- alone as among others, and as gpt eval has it"
head -n 1 stories.jsonl >one.jsonl
"$GPT" data perplexity --model run --input one.jsonl --out alone --threads 1 2>/dev/null
"$GPT" data shard --input one.jsonl --tokenizer tok --out shard >/dev/null 2>&1
tokens=$("$GPT" data inspect --data shard | sed -n 's/.* \([0-9]*\) tokens.*/\1/p' | head -n 1)
context=$(sed -n 's/.*"n_positions": \([0-9]*\).*/\1/p' run/checkpoints/step-*/config.json)
[ "$tokens" -le "$context" ] || tokens=$((context + 1))
values alone/kept_*.gz >a
values free/kept_*.gz | head -n 1 >b
"$GPT" eval --model run --data shard --seq-len $((tokens - 1)) --max-tokens $((tokens - 1)) --json | sed 's/.*"perplexity": \([0-9.]*\).*/\1/' >c
paste a b c | awk '{ print ($1 - $2) ^ 2 < 1e-8 * $1 ^ 2 && ($1 - $3) ^ 2 < 1e-8 * $1 ^ 2 ? "the same" : $0 }'

echo "--- limits; again"
most=$(awk '{ print $1 * 1.001 }' a)
"$GPT" data perplexity --model run --input all.jsonl --out some --most "$most" --least 1 >log 2>&1 || cat log
values some/kept_*.gz | sort -g | tail -n 1 | awk -v most="$most" '{ print ($1 <= most ? "none above" : $1 " above " most) }'
values some/dropped_*.gz | sort -g | head -n 1 | awk -v most="$most" '{ print ($1 > most ? "none below" : $1 " below " most) }'
gunzip -c some/*.gz | wc -l
"$GPT" data perplexity --model run --input all.jsonl --out some --most "$most" --least 1 2>&1 | tail -n 1
"$GPT" data perplexity --model run --input all.jsonl --out some --most 1 2>&1 | tail -n 1
