. "$ROOT/test/cli/trained_model.inc"
head -c 2000 docs.jsonl >long.txt
$GPT sample --model run --prompt-file long.txt
