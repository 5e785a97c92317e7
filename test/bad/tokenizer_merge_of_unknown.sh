mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
{ cat "$ROOT/test/golden/tokenizer/merges.txt"; echo "the xyzzy"; } >t/merges.txt
$GPT tokenizer encode --tokenizer t
