mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
{ cat "$ROOT/test/golden/tokenizer/merges.txt"; echo "t h e"; } >t/merges.txt
$GPT tokenizer encode --tokenizer t
