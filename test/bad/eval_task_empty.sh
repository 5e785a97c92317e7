. "$ROOT/test/cli/trained_model.inc"
echo >task.jsonl
$GPT eval --model run --task task.jsonl
