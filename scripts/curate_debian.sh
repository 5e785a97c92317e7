#!/bin/sh
# Raw web text to a small trained model: Debian's documentation through the whole pipeline, on two cores in minutes.
#
#   scripts/curate_debian.sh [STEPS]      (300) optimizer steps; everything goes to data/debian and runs/debian
#
# Needs Debian or Ubuntu, and root or sudo for what is not installed yet. Does again only what is not there.
set -e
cd "$(dirname "$0")/.."
steps=${1:-300}
out=data/debian
packages='libreoffice-help-en-us debian-handbook perl-doc fortunes jargon-text'

say() { printf '\n== %s\n' "$1"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

missing=
for p in $packages; do dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"; done
if [ -n "$missing" ]; then
    say "Install$missing"
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    # shellcheck disable=SC2086  # one word a package
    run $sudo apt-get install -y --no-install-recommends $missing
fi
[ -x gpt ] || run make -j"$(nproc)"

say 'Raw text and HTML'
mkdir -p "$out/raw"
[ -f "$out/raw/jargon.txt" ] || zcat /usr/share/doc/jargon-text/jargon.txt.gz >"$out/raw/jargon.txt"
if [ ! -d "$out/raw/fortunes" ]; then
    mkdir "$out/raw/fortunes"
    for f in /usr/share/games/fortunes/*; do
        case $f in *.dat | *.u8) ;; *) [ -f "$f" ] && tr -d '\010' <"$f" >"$out/raw/fortunes/${f##*/}.txt" ;; esac
    done
fi
if [ ! -d "$out/raw/perl" ]; then
    mkdir "$out/raw/perl"
    for f in /usr/share/perl/*/pod/*.pod; do pod2text "$f" >"$out/raw/perl/$(basename "$f" .pod).txt" 2>/dev/null || true; done
fi

say 'Clean: rules, exact duplicates, names and numbers of people'
run ./gpt data clean --config configs/clean.json --set output.anonymise=true --out "$out/clean" \
    --input "$out/raw" /usr/share/libreoffice/help/en-US/text /usr/share/doc/debian-handbook/html/en-US
say 'Near-duplicates'
[ -f "$out/dedup/report.json" ] || run ./gpt data dedup --input "$out"/clean/clean_*.jsonl.gz --out "$out/dedup"

say 'A tokenizer, and token shards'
[ -d "$out/tokenizer" ] ||
    run ./gpt tokenizer train --input "$out"/dedup/kept_*.jsonl.gz --vocab-size 4096 --out "$out/tokenizer"
[ -d "$out/shards" ] || run ./gpt data shard --input "$out"/dedup/kept_*.jsonl.gz --tokenizer "$out/tokenizer" \
    --val-fraction 0.02 --out "$out/shards"

say 'Train'
cat >"$out/train.json" <<JSON
{
  "name": "debian", "tokenizer": "$out/tokenizer",
  "model": {"n_positions": 256, "n_embd": 128, "n_layer": 4, "n_head": 4},
  "data": {"train": [{"path": "$out/shards/train_*.bin"}], "val": [{"path": "$out/shards/val_*.bin"}]},
  "train": {"max_steps": $steps, "global_batch_size": 16, "log_interval": 20, "eval_interval": 100},
  "optimizer": {"lr": 3e-3}, "lr_schedule": {"name": "cosine", "warmup_steps": 20}
}
JSON
run ./gpt train --config "$out/train.json" --overwrite
run ./gpt sample --model runs/debian --prompt 'To open the dialog, ' --max-tokens 60
