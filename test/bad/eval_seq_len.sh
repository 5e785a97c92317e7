. "$ROOT/test/cli/trained_model.inc"
$GPT eval --model run --data data/val_000000.bin --seq-len 65
