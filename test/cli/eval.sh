# loss over shards as a table and as JSON; tasks
. "$ROOT/test/cli/trained_model.inc"
"$GPT" eval --model run --data "data/val_*.bin" --seq-len 32
"$GPT" eval --model run --data data/val_000000.bin --seq-len 32 --json >a
"$GPT" eval --model run/checkpoints/step-00000001 --data data/val_000000.bin --seq-len 32 --json --threads 1 >b
cmp a b && cat a
grep -o '"val_loss": [0-9.]*' run/metrics.jsonl | cut -c 1-15
echo "--- the tokenizer may be elsewhere, or missing: then there are no bytes"
mkdir bare && cp run/checkpoints/step-00000001/config.json run/checkpoints/step-00000001/model.safetensors bare
"$GPT" eval --model bare --tokenizer tok --data data/val_000000.bin --seq-len 32 --json >c
cmp a c && echo same
"$GPT" eval --model bare --data data/val_000000.bin --seq-len 32 --max-tokens 100 --json

echo "--- tasks"
cat >choice.jsonl <<'END'
{"ctx": "Once upon a time", "endings": ["there was a fox.", "zzzz"], "label": 0}
{"ctx": "The end.", "endings": ["a", "b", "c", "d"], "label": "3"}
END
"$GPT" eval --model run --task choice.jsonl
"$GPT" eval --model run --task choice.jsonl --json --max-items 1
echo '{"text": "The fox met a bear and the bear met a fox"}' >word.jsonl
"$GPT" eval --model run --task word.jsonl
"$GPT" eval --model run --task word.jsonl --json
