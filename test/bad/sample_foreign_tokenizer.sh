. "$ROOT/test/cli/trained_model.inc"
"$GPT" tokenizer train --input docs.jsonl --vocab-size 400 --out big >/dev/null 2>&1
$GPT sample --model run --tokenizer big --prompt "<|endoftext|>"
