. "$ROOT/test/cli/trained_model.inc"
echo "{\"ctx\": \"one\", \"endings\": [\"two\", \"three\"], \"label\": 2}" >task.jsonl
$GPT eval --model run --task task.jsonl
