. "$ROOT/test/cli/trained_model.inc"
"$GPT" tokenizer train --input docs.jsonl --vocab-size 400 --out big >/dev/null 2>&1
"$GPT" data shard --input docs.jsonl --tokenizer big --out other >/dev/null 2>&1
$GPT eval --model run --data other/train_000000.bin --seq-len 32
