. "$ROOT/test/cli/trained_model.inc"
echo "one two three" >task.jsonl
$GPT eval --model run --task task.jsonl
