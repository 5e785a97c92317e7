mkdir t
cp "$ROOT/test/golden/tokenizer/vocab.json" t
head -n 100 "$ROOT/test/golden/tokenizer/merges.txt" >t/merges.txt
$GPT tokenizer encode --tokenizer t
