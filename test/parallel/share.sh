#!/bin/bash
# Commands of `gpt data` whose files are shared over ranks: two ranks write what one process writes, byte for byte, also
# after a rank was killed and the job started again; an error of one rank is one line. Knobs: GPT.
here=$(cd "$(dirname "$0")" && pwd)
GPT=${GPT:-$here/../../gpt}
case $GPT in /*) ;; *) GPT=$PWD/$GPT ;; esac
if ! command -v mpirun >/dev/null || ! "$here/run.sh" 2 "$GPT" version >/dev/null 2>&1; then
    echo "skipped share.sh: no mpirun here, or built without MPI" && echo "0 passed, 0 failed, 1 skipped" && exit
fi
scratch=$(mktemp -d) && cd "$scratch" || exit 1
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

check() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1)) && echo "ok      $what"
    else
        failed=$((failed + 1)) && echo "FAILED  $what" && tail -n 12 log
    fi
}
ranks() { "$here/run.sh" "$@" 2>log; }
# The results in a folder; the page says how long the run took.
result() { find "$1" -type f ! -name report.html | LC_ALL=C sort | while read -r f; do echo "${f#"$1"/} $(cksum <"$f")"; done; }
same() { [ "$(result "$1")" = "$(result "$2")" ] && [ "$(find "$1" -name '*.gz' -size +1k | wc -l)" -ge 4 ]; }
# as_one NAME COMMAND FLAG...: by one process, by two ranks
as_one() {
    local name=$1
    shift
    "$GPT" data "$@" --out "$name.1" 2>log && ranks 2 "$GPT" data "$@" --out "$name.2" && same "$name.1" "$name.2"
}
says_once() { [ "$(grep -c "$1" log)" = 1 ] && [ "$(grep -c '^gpt: ' log)" = 1 ]; }

# Five files, the third of the first one's stories again and more; with mail addresses, and lines that come twice.
for i in 1 2 3 4 5; do
    "$GPT" data demo --out raw.jsonl --bytes $((i * 100))K --seed $((i == 3 ? 1 : i))
    sed "s/\"}$/ Write to tom$i@example.org.\"}/; s/^{\"text\": \"/&A line that all of the stories begin with.\\\\n/" raw.jsonl >"in$i.jsonl"
done
clean=(--input in[1-5].jsonl --set input.unit=100000 --set duplicates.lines=true --set gopher.min_words=20)
check "clean" as_one clean clean "${clean[@]}"
check "dedup" as_one dedup dedup --input in[1-5].jsonl
check "anonymise" as_one anonymise anonymise --input in[1-5].jsonl
check "decontaminate" as_one decontaminate decontaminate --input in[1-5].jsonl --against in2.jsonl
"$GPT" data classifier train --positive in1.jsonl --negative in2.jsonl --buckets 65536 --out judge >/dev/null 2>&1
check "clean, the best fifth" as_one keep clean "${clean[@]}" --set models.classifier=judge --set models.keep=0.2
"$GPT" tokenizer train --input in1.jsonl --vocab-size 300 --out tok >/dev/null 2>&1
"$GPT" data shard --input in1.jsonl --tokenizer tok --out shards >/dev/null 2>&1
echo '{"out": "gpt", "tokenizer": "tok", "data": {"train": "shards/train_*.bin"},
 "model": {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 64},
 "train": {"max_steps": 20, "global_batch_size": 8, "seq_len": 64}, "optimizer": {"lr": 5e-3}}' >gpt.json
"$GPT" train --config gpt.json >/dev/null 2>&1
check "clean, by a GPT" as_one gpt_clean clean "${clean[@]}" --lm gpt --set models.max_lm_perplexity=100
check "perplexity" as_one perplexity perplexity --input in[1-5].jsonl --model gpt --most 100
"$GPT" data lm train --input in1.jsonl --out lm --order 3 >/dev/null 2>&1
"$GPT" data lm score --model lm --input in[1-5].jsonl >one
scores() { ranks 2 "$GPT" data lm score --model lm --input in[1-5].jsonl | cmp -s - one; }
check "lm score" scores

# A rank dies as soon as something is there; one process goes on, or two.
for n in 1 2; do
    for job in clean dedup; do
        flags=("${clean[@]}") && [ $job = dedup ] && flags=(--input in[1-5].jsonl)
        "$here/run.sh" 2 "$GPT" data $job "${flags[@]}" --out "again.$job.$n" >/dev/null 2>&1 &
        until compgen -G "again.$job.$n/work/*0*" >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
        pkill -KILL -n -f "^$GPT data $job .*--out again.$job.$n\$" # this test's own
        wait $!
        ranks "$n" "$GPT" data $job "${flags[@]}" --out "again.$job.$n"
        check "$job: killed, gone on with by $n" same $job.1 again.$job.$n
    done
done

echo '{"text": "not ended' >bad.jsonl
mkdir -p bad/kept_000000.jsonl.gz
ranks 2 "$GPT" data dedup --input in[1-5].jsonl --out bad
check "a file that one rank cannot write: one line" says_once 'bad/kept_000000.jsonl.gz: cannot rename'
as_one problems anonymise --input bad.jsonl in[1-5].jsonl
check "a line that one rank cannot read" same problems.1 problems.2
check "and tells" grep -q 'bad.jsonl: at byte 0: line 1: not a JSON object' log
ranks 2 "$GPT" data dedup --input missing.jsonl --out bad
check "a file that is not there: one line" says_once 'missing.jsonl: cannot open'
ranks 2 "$GPT" tokenizer train --input in1.jsonl --vocab-size 300 --out tokenizer
check "rank 0 alone trains a tokenizer" says_once 'a tokenizer of 300 entries'
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
