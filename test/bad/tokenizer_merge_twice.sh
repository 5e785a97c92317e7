mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
{ cat "$ROOT/test/golden/tokenizer/merges.txt"; sed -n 2p "$ROOT/test/golden/tokenizer/merges.txt"; } >t/merges.txt
$GPT tokenizer encode --tokenizer t
