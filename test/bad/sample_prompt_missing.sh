. "$ROOT/test/cli/trained_model.inc"
$GPT sample --model run --prompt-file nowhere.txt
