#!/bin/sh
# Downloads public data: scripts/get_data.sh [--dry-run] [--out DIR] [--shards N] WHAT...
#
#   shakespeare   Tiny Shakespeare, 1.1 MB of text                          -> DIR/tinyshakespeare.txt
#   gpt2-vocab    GPT-2's vocabulary, a folder for --tokenizer              -> DIR/gpt2-vocab/
#   hellaswag     HellaSwag's validation set, for gpt eval --task           -> DIR/hellaswag/hellaswag_val.jsonl
#   fineweb10B    FineWeb in GPT-2's tokens: 103 shards of 100M tokens and one for validation, 20.8 GB in all;
#                 --shards N takes the first N                              -> DIR/fineweb10B/
#
# DIR is data. What is there already is verified and kept, and a download that was interrupted goes on where it
# stopped (NAME.part). Files are checked against their sha256, shards by `gpt data inspect --verify` (GPT=./gpt).
# --dry-run only says what would be fetched.
set -eu
GPT=${GPT:-$(dirname "$0")/../gpt}
out=data shards=103 dry=

say() { printf 'get_data: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit "$1"; }

# Is file $1 what check $2 demands? sha256:HEX, or shard.
verify() {
    case $2 in
    sha256:*) [ "$( (sha256sum "$1" 2>/dev/null || shasum -a 256 "$1") | cut -d ' ' -f 1)" = "${2#*:}" ] ;;
    shard) "$GPT" data inspect --data "$1" --documents 0 --verify >/dev/null ;;
    esac
}

# Goes on with file $2 from URL $1.
download() {
    if command -v curl >/dev/null; then curl -fL --retry 5 -C - -o "$2" "$1"
    elif command -v wget >/dev/null; then wget -c -t 5 -O "$2" "$1"
    else die "neither curl nor wget is installed"
    fi
}

# fetch URL FILE CHECK
fetch() {
    if [ -n "$dry" ]; then
        printf '%s -> %s (%s)\n' "$1" "$2" "$3"
        return
    fi
    if [ -f "$2" ]; then
        if verify "$2" "$3"; then say "$2 is there" && return; fi
        die "$2 is there, but is not what it should be ($3); remove it and run this again"
    fi
    mkdir -p "$(dirname "$2")"
    if ! { [ -f "$2.part" ] && verify "$2.part" "$3" 2>/dev/null; }; then
        say "$1"
        download "$1" "$2.part" || die "$1 did not come whole; run this again to go on with $2.part, or remove that first"
    fi
    if ! verify "$2.part" "$3"; then
        mv "$2.part" "$2.bad"
        die "$1 is not what it should be ($3); it was kept as $2.bad"
    fi
    mv "$2.part" "$2"
    say "$2 is verified"
}

get() {
    case $1 in
    shakespeare)
        fetch https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt \
            "$out/tinyshakespeare.txt" \
            sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
        ;;
    gpt2-vocab)
        hub=https://huggingface.co/openai-community/gpt2/resolve/main
        fetch $hub/vocab.json "$out/gpt2-vocab/vocab.json" \
            sha256:196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783
        fetch $hub/merges.txt "$out/gpt2-vocab/merges.txt" \
            sha256:1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5
        ;;
    hellaswag)
        fetch https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl \
            "$out/hellaswag/hellaswag_val.jsonl" \
            sha256:0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588
        ;;
    fineweb10B)
        hub=https://huggingface.co/datasets/kjj0/fineweb10B-gpt2/resolve/main
        [ -n "$dry" ] || [ -x "$GPT" ] || die "$GPT is not there to verify shards with; run make first"
        fetch $hub/fineweb_val_000000.bin "$out/fineweb10B/fineweb_val_000000.bin" shard
        i=1
        while [ "$i" -le "$shards" ]; do
            name=$(printf 'fineweb_train_%06d.bin' "$i")
            fetch "$hub/$name" "$out/fineweb10B/$name" shard
            i=$((i + 1))
        done
        ;;
    *) die "do not know \"$1\"; there are shakespeare, gpt2-vocab, hellaswag, fineweb10B" ;;
    esac
}

what=
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=1 ;;
    --out | --shards)
        [ $# -gt 1 ] || die "$1 needs a value"
        if [ "$1" = --out ]; then out=$2; else shards=$2; fi
        shift
        ;;
    --help | -h) usage 0 ;;
    *) what="$what $1" ;;
    esac
    shift
done
[ -n "$what" ] || usage 2
case $shards in *[!0-9]* | '') die "--shards takes a number from 1 to 103, not \"$shards\"" ;; esac
if [ "$shards" -lt 1 ] || [ "$shards" -gt 103 ]; then die "--shards takes a number from 1 to 103, not $shards"; fi
for name in $what; do get "$name"; done
