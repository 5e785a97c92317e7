mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
: >t/merges.txt
$GPT tokenizer encode --tokenizer t
