#!/bin/sh
# A model that tells languages apart, for `language.model` of gpt data clean: learnt from the Debian handbook, a book in
# twenty-odd languages, and tried on the Debian reference, another one.
#
#   scripts/train_language.sh [OUT]      (data/language) OUT/classifier.bin; what it was made of stands beside it
#
# Needs Debian or Ubuntu, and root or sudo for what is not installed yet. Takes a minute or two.
set -e
cd "$(dirname "$0")/.."
out=${1:-data/language}
packages='debian-handbook debian-reference-de debian-reference-en debian-reference-es debian-reference-fr debian-reference-id
    debian-reference-it debian-reference-ja debian-reference-pt debian-reference-zh-cn'
fewest=600 # lines: translations that have hardly begun are no example

missing=
for p in $packages; do dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"; done
if [ -n "$missing" ]; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    # shellcheck disable=SC2086  # one word a package
    $sudo apt-get install -y --no-install-recommends $missing
fi
[ -x gpt ] || make -j"$(nproc)"
rm -rf "$out"
mkdir -p "$out/train" "$out/test"

# The lines of HTML files that are long enough to have a language and are mostly letters, each once, as JSON:
# lines FOLDER >OUT
lines() {
    ./gpt data clean --input "$1" --out "$out/clean" --set lines.clean=false 2>/dev/null
    zcat "$out"/clean/clean_*.gz "$out"/clean/dropped_*.gz |
        sed 's/^{"text": "//; s/", "file": .*//; s/\\\\/ /g; s/\\n/\n/g; s/\\t/ /g' |
        LC_ALL=C awk 'length >= 40 && !seen[$0]++ {
            t = $0
            if (gsub(/[^A-Za-z \200-\377]/, "", t) < 0.15 * length($0)) print "{\"text\": \"" $0 "\"}" }'
    rm -rf "$out/clean"
}

# What a translation has in common with the original has not been translated.
translated() { # FILE ORIGINAL, >>OUT
    if [ "$1" = "$2" ]; then cat "$1"; else grep -vxFf "$2" "$1" || true; fi
}

book=/usr/share/doc/debian-handbook/html
for d in "$book"/*; do lines "$d" >"$out/${d##*/}.lines"; done
for f in "$out"/*.lines; do
    language=$(basename "$f" | cut -c 1-2)
    translated "$f" "$out/en-US.lines" >>"$out/train/$language.jsonl"
done
for language in de en es fr id it ja pt zh; do
    mkdir "$out/html"
    cp /usr/share/debian-reference/*."$language"*.html "$out/html"
    lines "$out/html" >"$out/ref-$language.lines"
    rm -r "$out/html"
done
for f in "$out"/ref-*.lines; do translated "$f" "$out/ref-en.lines" >"$out/test/$(basename "$f" .lines | cut -c 5-).jsonl"; done
rm "$out"/*.lines

set --
for f in "$out"/train/*.jsonl; do
    if [ "$(wc -l <"$f")" -ge $fewest ]; then set -- "$@" --label "$(basename "$f" .jsonl)=$f"; else rm "$f"; fi
done
./gpt data classifier train "$@" --out "$out" --chars 3 --ngrams 1 --buckets 256K --epochs 10 | grep -v scores

echo 'On another book, lines that get their language:'
for f in "$out"/test/*.jsonl; do
    ./gpt data classifier score --model "$out" --input "$f" | awk -F '\t' -v want="$(basename "$f" .jsonl)" '
        NR == 1 { for (i = 1; i < NF; i++) name[i] = $i; next }
        { best = 1; for (i = 2; i < NF; i++) if ($i > $best) best = i; right += name[best] == want }
        END { printf "%s: %d of %d, %.2f %%\n", want, right, NR - 1, 100 * right / (NR - 1) }'
done
