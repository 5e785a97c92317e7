# Every command that the README shows, in its order, as it stands there. Three stand-ins make it short and local:
# gpt trains for two steps of a small model, get_data.sh only says what it would fetch (the files are made here), and
# make finds its work done.
mkdir bin scripts data configs
ln -s "$ROOT"/configs/* configs/
for f in "$ROOT"/scripts/*.sh; do ln -s "$f" scripts/; done
rm scripts/get_data.sh scripts/test.sh
# shellcheck disable=SC2016
printf '#!/bin/sh\nexec "$ROOT"/scripts/get_data.sh --dry-run "$@"\n' >scripts/get_data.sh
printf '#!/bin/sh\necho these are the tests that run now\n' >scripts/test.sh
printf '#!/bin/sh\n' >bin/make
# mpirun with what root or few cores need, or nothing where there is none.
# shellcheck disable=SC2016
printf '#!/bin/sh\nPATH=${PATH#*:}\nshift\nexec "$ROOT"/test/parallel/run.sh "$@"\n' >bin/mpirun
cat >gpt <<'END'
#!/bin/sh
case $1 in
train) exec "$GPT" "$@" --set train.max_steps=2 train.eval_batches=1 train.global_batch_size=2 train.micro_batch_size=2 \
    train.threads=1 train.seq_len=64 model.n_layer=1 model.n_embd=32 model.n_head=2 ;;
esac
[ "$1 $2" != "data demo" ] || set -- "$@" --bytes 300000
exec "$GPT" "$@"
END
chmod +x gpt bin/make bin/mpirun scripts/get_data.sh scripts/test.sh
PATH=$PWD/bin:$PATH

"$GPT" data demo --out stories.jsonl --bytes 200000 2>/dev/null
sed 's/.*"text": "\(.*\)", "nats.*/\1\n/; s/\\"/"/g' stories.jsonl >data/tinyshakespeare.txt
"$GPT" tokenizer train --input stories.jsonl --vocab-size 512 --out data/gpt2-vocab 2>/dev/null
for part in train val; do
    "$GPT" data shard --input stories.jsonl --tokenizer data/gpt2-vocab --out data/fineweb10B --prefix fineweb_$part >log 2>&1 ||
        cat log
done
mkdir data/raw
cp data/tinyshakespeare.txt data/raw
mkdir data/hellaswag
printf '{"ctx": "Once upon", "endings": [" a time", " a cat", " two", " it"], "label": 0}\n' >data/hellaswag/hellaswag_val.jsonl

# The commands stand in blocks of sh, and after a $ in blocks of console.
awk '/^```/ { kind = substr($0, 4); next } kind == "sh" { print } kind == "console" && sub(/^\$ /, "") { print }' \
    "$ROOT/README.md" >commands
while read -r command; do
    if sh -c "$command" >log 2>&1 </dev/null; then echo "ok $command"; else echo "FAILED $command" && tail -n 5 log; fi
done <commands
