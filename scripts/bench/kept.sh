#!/bin/sh
# Is what `gpt data clean` keeps worth more to a model than what it was given? Two small models see the same number of
# tokens: one the best fifth of a raw pile, by the rules and the classifier, the other tokens drawn at random from all of
# it. Prints the curves of their losses on a clean set that neither they, nor the classifier, nor the tokenizer has seen.
#
#   scripts/bench/kept.sh [DIR]           (data/kept) also DIR/curves.svg.
#                                         Knobs: STEPS (600) of 4096 tokens, SEEDS (1), KEEP (0.2), THREADS (all)
#
# The pile: manuals of Perl, Python, SQLite, git, PostgreSQL, LibreOffice's help, fortunes, the Jargon File, licences,
# the Debian handbook in German and in French. Clean is the handbook in English: two chapters in three teach the classifier, the third is held out, and
# documents of the pile that share 13 words in a row with it are taken out first. On Debian or Ubuntu.
set -e
cd "$(dirname "$0")/../.."
out=${1:-data/kept} gpt=${GPT:-./gpt} threads=${THREADS:-0} keep=${KEEP:-0.2}
packages='debian-handbook perl-doc fortunes jargon-text libreoffice-help-en-us python3-doc sqlite3-doc git-doc postgresql-doc'

say() { printf '\n== %s\n' "$1"; }
missing=
for p in $packages; do dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"; done
[ -z "$missing" ] || { echo "kept.sh: first: apt-get install$missing" && exit 1; }
[ -x "$gpt" ] || make -j2
mkdir -p "$out"

# Text of paragraphs on stdin to files of a web page's size, $1_0000.txt ...; lines that were broken to fit are joined.
pieces() {
    awk -v name="$1" 'BEGIN { RS = ""; most = 3000 }
        { gsub(/\n([^ \t])/, "\001&"); gsub(/\001\n/, " ") }
        !file || size > most { if (file) close(file); file = sprintf("%s_%04d.txt", name, n++); size = 0 }
        { print $0 "\n" > file; size += length($0) }'
}
tokens_of() { "$gpt" data inspect --documents 1 --data "$1" | sed -n 's/.* \([0-9]*\) tokens.*/\1/p' | head -n 1; }
# All rules off: only the text of what is there.
as_it_is() {
    # shellcheck disable=SC2046  # one word a flag
    "$gpt" data clean --threads "$threads" --set lines.clean=false --set duplicates.documents=false "$@" \
        $("$gpt" help clean | awk '/^(gopher|repetition|c4|fineweb|own)\./ { print "--set " $1 "=null" }')
}
# shards FOLDER FILE...
shards() {
    folder=$1 && shift
    "$gpt" data shard --threads "$threads" --input "$@" --tokenizer "$out/tokenizer" --out "$folder" --overwrite
}

if [ ! -d "$out/raw" ]; then
    say 'The raw pile'
    mkdir "$out/raw.part" "$out/raw.part/perl" "$out/raw.part/licences" "$out/raw.part/other"
    for f in /usr/share/perl/*/pod/*.pod; do
        [ ! -L "${f%/pod/*}" ] || continue
        pod2text --width=100000 --indent=0 "$f" 2>/dev/null | pieces "$out/raw.part/perl/$(basename "$f" .pod)"
    done
    zcat /usr/share/doc/jargon-text/jargon.txt.gz | pieces "$out/raw.part/other/jargon"
    for f in /usr/share/games/fortunes/*; do
        name=$out/raw.part/other/fortunes-${f##*/}
        case $f in *.dat | *.u8) ;; *) tr -d '\010' <"$f" | pieces "$name" ;; esac
    done
    find /usr/share/doc -name copyright -type f -size -16k | while read -r f; do
        p=${f%/copyright} && cp "$f" "$out/raw.part/licences/${p##*/}.txt"
    done
    for l in de-DE fr-FR; do cp -r "/usr/share/doc/debian-handbook/html/$l" "$out/raw.part/$l"; done
    cp -rL /usr/share/libreoffice/help/en-US/text "$out/raw.part/libreoffice"
    for f in /usr/share/doc/python3.*[0-9]/html /usr/share/doc/sqlite3 /usr/share/doc/git-doc /usr/share/doc/postgresql-doc-*/html; do
        name=${f#/usr/share/doc/} && cp -rL "$f" "$out/raw.part/${name%/html}"
    done
    mv "$out/raw.part" "$out/raw"
fi
if [ ! -d "$out/clean" ]; then
    say 'The clean set: two chapters in three to learn from, the third held out'
    mkdir "$out/clean.part" "$out/clean.part/learn" "$out/clean.part/held"
    n=0
    for f in /usr/share/doc/debian-handbook/html/en-US/*.html; do
        n=$((n + 1)) part=learn
        [ $((n % 3)) -ne 0 ] || part=held
        cp "$f" "$out/clean.part/$part"
    done
    mv "$out/clean.part" "$out/clean"
fi

say 'To text; what the held-out set shares with the pile goes from the pile'
as_it_is --input "$out/raw" --out "$out/text"
as_it_is --input "$out/clean/learn" --out "$out/learn"
as_it_is --input "$out/clean/held" --out "$out/held"
gunzip -c "$out"/held/clean_*.jsonl.gz >"$out/held.jsonl"
"$gpt" data decontaminate --threads "$threads" --input "$out"/text/clean_*.jsonl.gz --against "$out/held.jsonl" --out "$out/pile"

say 'The classifier, and what it keeps'
[ -d "$out/judge" ] || "$gpt" data classifier train --threads "$threads" --positive "$out"/learn/clean_*.jsonl.gz \
    --negative "$out"/pile/kept_*.jsonl.gz --out "$out/judge"
"$gpt" data clean --threads "$threads" --input "$out"/pile/kept_*.jsonl.gz --set models.classifier="$out/judge" \
    --set models.keep="$keep" --set c4.max_braces=null --out "$out/best"

say 'Token shards, by one tokenizer that was trained on the pile'
[ -d "$out/tokenizer" ] ||
    "$gpt" tokenizer train --input "$out"/pile/kept_*.jsonl.gz --vocab-size 4096 --out "$out/tokenizer"
shards "$out/shards-random" "$out"/pile/kept_*.jsonl.gz # what was dropped stands beside it
shards "$out/shards-kept" "$out"/best/clean_*.jsonl.gz
shards "$out/shards-held" "$out"/held/clean_*.jsonl.gz
tokens=$(tokens_of "$out/shards-kept")
steps=${STEPS:-600}
echo "kept: $tokens tokens of $(tokens_of "$out/shards-random"); both models see $((steps * 4096))"

# train NAME SEED: to the run kept-NAME-SEED
train() {
    cat >"$out/train.json" <<JSON
{
  "name": "kept-$1-$2", "tokenizer": "$out/tokenizer",
  "model": {"n_positions": 256, "n_embd": 128, "n_layer": 4, "n_head": 4},
  "data": {"train": [{"path": "$out/shards-$1/train_*.bin"}], "val": [{"path": "$out/shards-held/train_*.bin"}]},
  "train": {"max_steps": $steps, "global_batch_size": 16, "seed": $2, "threads": $threads, "log_interval": 50,
            "eval_interval": $(((steps + 9) / 10)), "eval_batches": 1000000},
  "optimizer": {"lr": 3e-3}, "lr_schedule": {"name": "cosine", "warmup_steps": 20}
}
JSON
    "$gpt" train --config "$out/train.json" --overwrite
}
# "STEP LOSS" on the held-out set
curve() { sed -n 's/.*"step": \([0-9]*\),.*"val_loss": \([0-9.]*\).*/\1 \2/p' "runs/$1/metrics.jsonl"; }

for seed in ${SEEDS:-1}; do
    for name in random kept; do
        say "Train on $name, seed $seed"
        train $name "$seed"
        curve "kept-$name-$seed" | sed "s/^/$name $seed /"
    done
done >"$out/log" 2>&1
grep -E '^(random|kept) [0-9]+ [0-9]+ [0-9.]+$' "$out/log" >"$out/curves"

say "Loss on the held-out clean set, nats a token; $tokens tokens kept"
awk '{ s[$3] = 1; x[$1, $3] += $4; n[$1, $3]++ }
    END { for (t in s) printf "%s %.4f %.4f %.4f\n", t, a = x["random", t] / n["random", t], b = x["kept", t] / n["kept", t], b - a }' \
    "$out/curves" | sort -n | awk 'BEGIN { print "step       at random        kept  difference" } { printf "%-8s %11s %11s %11s\n", $1, $2, $3, $4 }'
awk '{ x[NR] = $3; y[NR] = $4; c[NR] = $1; k[NR] = $1 $2; if ($3 > w) w = $3; if ($4 > h) h = $4; if (!l || $4 < l) l = $4 }
    function px(v) { return 50 + 530 * v / w }
    function py(v) { return 20 + 260 * (h - v) / (h - l) }
    END {
        print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 320\" font-family=\"sans-serif\" font-size=\"12\">"
        printf "<path d=\"M50 20V280H580\" fill=\"none\" stroke=\"#888\"/><text x=\"45\" y=\"24\" text-anchor=\"end\">%.2f</text>", h
        printf "<text x=\"45\" y=\"284\" text-anchor=\"end\">%.2f</text><text x=\"580\" y=\"300\" text-anchor=\"end\">step %d</text>\n", l, w
        for (i = 1; i <= NR; i++) {
            if (k[i] != k[i - 1]) {
                if (i > 1) print "\"/>"
                color = c[i] == "kept" ? "#06c" : "#c60"
                printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color
            }
            printf "%.1f,%.1f ", px(x[i]), py(y[i])
        }
        print "\"/>\n<text x=\"460\" y=\"40\" fill=\"#c60\">drawn at random</text><text x=\"460\" y=\"60\" fill=\"#06c\">kept</text>\n</svg>"
    }' "$out/curves" >"$out/curves.svg"
echo "$out/curves.svg: the curves"
