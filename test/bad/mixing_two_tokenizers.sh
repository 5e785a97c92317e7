. "$ROOT/test/cli/three_sources.inc"
"$GPT" tokenizer train --input c.jsonl --vocab-size 270 --out other 2>/dev/null
"$GPT" data shard --input c.jsonl --tokenizer other --out d >/dev/null 2>&1
"$GPT" train --config config.json --set name=m 'data.train=[{"path": "a/train_*.bin"}, {"path": "d/train_*.bin"}]'
