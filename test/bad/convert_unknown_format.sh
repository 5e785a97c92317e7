. "$ROOT/test/bad/tiny_model.inc"
config m && tensors | weights m
$GPT convert --model m --to onnx --out out
