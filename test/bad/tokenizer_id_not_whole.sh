mkdir t
cp "$ROOT/test/golden/tokenizer/merges.txt" t
sed "s/\"!\":1,/\"!\":1.5,/" "$ROOT/test/golden/tokenizer/vocab.json" >t/vocab.json
$GPT tokenizer encode --tokenizer t
