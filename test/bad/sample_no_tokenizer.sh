. "$ROOT/test/cli/trained_model.inc"
mkdir bare && cp run/checkpoints/step-00000001/config.json run/checkpoints/step-00000001/model.safetensors bare
$GPT sample --model bare
