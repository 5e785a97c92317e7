mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
$GPT tokenizer encode --tokenizer t
