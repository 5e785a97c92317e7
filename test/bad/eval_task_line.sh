. "$ROOT/test/cli/trained_model.inc"
printf "%s\n" "{\"text\": \"one two\"}" "{\"text\": 2}" >task.jsonl
$GPT eval --model run --task task.jsonl
