# A GPT that scores what the rules leave: data clean --lm, in batches; what explain and data perplexity say of the same texts.
. "$ROOT/test/cli/storyteller.inc"
mkdir raw
for f in 1 2 3; do "$GPT" data demo --out raw/$f.jsonl --bytes 20K --seed $f$f >/dev/null 2>&1; done
for f in 1 2 3; do garble raw/$f.jsonl >raw/garbled_$f.jsonl; done
echo '{"text": "too short"}' >raw/short.jsonl
cat >clean.json <<'J'
{"input": {"unit": 30000}, "c4": {"min_sentences": null}, "fineweb": {"min_line_punctuation": null}, "models": {"lm": "run"}}
J
said() { grep -v 'cpu:\|model:\|memory:' | sed 's/; [0-9.]* MB.s//'; }
clean() { # folder, then flags
    out=$1
    shift
    "$GPT" data clean --config clean.json --input raw --out "$out" "$@" 2>&1 | said
}
same() {
    for f in "$1"/*.gz "$1"/report.json; do cmp "$f" "$2/${f##*/}" || return; done
    echo "the same: $1 $2"
}
clean all
values() { zcat "$@" | sed -n 's/.*"lm_perplexity": \([0-9.e+]*\).*/\1/p'; }
most=$(values all/clean_*.gz | sort -g | awk '{ x[NR] = $1 } END { print (x[NR / 2] + x[NR / 2 + 1]) / 2 }')
zcat all/clean_*.gz >all.jsonl
"$GPT" data perplexity --model run --input all.jsonl --out again 2>/dev/null
zcat again/kept_*.gz | sed 's/.*"lm_perplexity": \([0-9.e+]*\)}.*"lm_perplexity": \([0-9.e+]*\)}/\1 \2/' |
    awk '{ differ += ($1 - $2) ^ 2 > 1e-8 * $2 ^ 2; n++ } END { print (n ? "as data perplexity has it: " n - differ " of " n : "none") }'
zcat all/clean_*.gz | head -n 1 >one.jsonl
"$GPT" data explain --config clean.json --input one.jsonl --set models.max_lm_perplexity=1 2>&1 | grep 'lm_perplexity' | sed 's/  *[0-9.]*  /  X  /; s/, [0-9.]* too/, X too/'

echo "--- a limit: what goes is what is garbled"
clean some --set models.max_lm_perplexity="$most" | sed 's/documents kept,.*/documents kept/'
strange=$(zcat some/clean_*.gz | grep -c ' zq \| xv ') usual=$(zcat some/dropped_*.gz | grep 'models.max_lm' | grep -vc ' zq \| xv ')
[ "$strange" -le 5 ] && [ "$usual" -le 5 ] && echo "told apart" || echo "$strange strange ones stay, $usual usual ones go"
zcat some/*.gz | wc -l
grep -o '"models.max_lm_perplexity": {"documents": [0-9]*' some/report.json | sed 's/.* //' | awk -v n="$(zcat some/dropped_*.gz | grep -c models.max_lm)" '{ print ($1 == n ? "counted" : $1 " are not " n) }'
grep -c 'models.max_lm_perplexity: largest' some/report.html
least=$(values some/clean_*.gz | sort -g | awk '{ x[NR] = $1 } END { print x[int(NR / 2)] }')
clean fewer --set models.max_lm_perplexity="$most" --set models.min_lm_perplexity="$least" >/dev/null
values fewer/clean_*.gz | awk -v a="$least" -v b="$most" '{ bad += $1 < a * 0.9999 || $1 > b * 1.0001; n++ } END { print (n && !bad ? "between" : bad " outside") }'

echo "--- threads, kills"
clean one --lm run --set models.max_lm_perplexity="$most" --threads 1 >/dev/null
same some one
for t in 0.02 0.04 0.06 0.08 0.1 0.15 0.2 0.3; do
    timeout -s KILL $t "$GPT" data clean --config clean.json --input raw --out killed --set models.max_lm_perplexity="$most" 2>/dev/null
done
clean killed --set models.max_lm_perplexity="$most" >/dev/null
same some killed

echo "--- and then the best of them"
"$GPT" data classifier train --positive raw/1.jsonl --negative raw/garbled_1.jsonl --out c --buckets 64K >/dev/null 2>&1
clean best --set models.max_lm_perplexity="$most" --set models.classifier=c --set models.keep=0.5 | sed 's/: [0-9]* of .*/: some/'
n=$(zcat some/clean_*.gz | wc -l)
zcat best/clean_*.gz | wc -l | awk -v n="$n" '{ print ($1 == int((n + 1) / 2) || $1 == int(n / 2) ? "half" : $1 " of " n) }'
zcat best/dropped_*.gz | grep -o '"reason": "models[a-z_.]*"' | sort -u

echo "--- mistakes"
"$GPT" data clean --input raw --out x --set models.max_lm_perplexity=9
"$GPT" data clean --input raw --out x --lm nothing
"$GPT" data clean --input raw --out x --set models.lm_precision=fp8
