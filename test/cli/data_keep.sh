# The best share of a run by a classifier's score: exactly so many, whatever the threads, killed or not; GPT-3's rule.
awk 'BEGIN { for (i = 0; i < 300; i++) print "{\"text\": \"a fine day number " i " in the garden of roses\"}" }' >good.jsonl
awk 'BEGIN { for (i = 0; i < 300; i++) print "{\"text\": \"buy now " i " cheap watches click here\"}" }' >bad.jsonl
"$GPT" data classifier train --positive good.jsonl --negative bad.jsonl --out c --buckets 64K >/dev/null 2>&1
mkdir raw
awk 'BEGIN { for (f = 0; f < 7; f++) for (i = 0; i < 100; i++) {
    text = "document " f " of " i ": "
    for (k = 0; k < 12; k++) text = text ((i * 7 + f + k * k) % 13 < i % 14 ? "fine roses of a day " : "cheap watches to buy ")
    print "{\"text\": \"" text "\"}" > "raw/" f ".jsonl" } }'
cat >keep.json <<'J'
{"gopher": {"min_words": 10, "min_stop_words": 1}, "repetition": {"max_top_2": null, "max_top_3": null, "max_top_4": null,
 "max_dup_5": null, "max_dup_6": null, "max_dup_7": null, "max_dup_8": null, "max_dup_9": null, "max_dup_10": null},
 "c4": {"min_sentences": null}, "lines": {"end_punctuation": false}, "fineweb": {"min_line_punctuation": null},
 "input": {"unit": 20000}, "models": {"classifier": "c", "keep": 0.2}}
J
clean() { # folder, then flags
    out=$1
    shift
    "$GPT" data clean --config keep.json --input raw --out "$out" "$@" 2>&1 | sed 's/; [0-9.]* MB.s//'
}
clean one --threads 1
zcat one/dropped_*.gz | grep -o '"reason": "[a-z_.]*"' | sort | uniq -c
limit=$(sed -n 's/.*"models.keep".*"limit": \([0-9.e-]*\),.*/\1/p' one/report.json)
least=$(zcat one/clean_*.gz | sed 's/.*"score": //' | sort -g | head -1)
most=$(zcat one/dropped_*.gz | grep models.keep | sed 's/.*"score": //' | sort -g | tail -1)
echo "$limit $least $most" | awk '{ print "the threshold is the least that is kept:", ($2 <= $1 * 1.0001 && $2 >= $1 * 0.9999 && $3 <= $2) }'
grep -c 'models.keep: smallest score among' one/report.html
clean two --threads 8 >/dev/null
for t in 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1; do timeout -s KILL $t "$GPT" data clean --config keep.json --input raw --out three 2>/dev/null; done
clean three >/dev/null
for f in one/*.gz one/report.json; do
    cmp "$f" two/"${f##*/}" && cmp "$f" three/"${f##*/}" || exit
done
echo "all the same"
clean pareto --set models.keep=null --set models.pareto=9 | sed 's/[0-9]* of 700 documents.*/some/'
"$GPT" data explain --config keep.json --input raw/0.jsonl --set models.pareto=9 --set models.keep=null | tail -2
"$GPT" data explain --config keep.json --input raw/0.jsonl | tail -2
"$GPT" data clean --config keep.json --input raw --out four --set models.pareto=9
"$GPT" data clean --input raw --out four --set models.keep=0.2
