mkdir t
cp "$ROOT/test/golden/tokenizer/merges.txt" t
echo "hello" >t/vocab.json
$GPT tokenizer encode --tokenizer t
