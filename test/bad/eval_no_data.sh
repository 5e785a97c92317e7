. "$ROOT/test/cli/trained_model.inc"
$GPT eval --model run --data nowhere_*.bin
