. "$ROOT/test/cli/trained_model.inc"
: >empty.txt
$GPT sample --model run --prompt-file empty.txt
