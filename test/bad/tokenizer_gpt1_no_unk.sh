mkdir t
echo '{"a": 0, "a</w>": 1}' >t/vocab.json
echo '#version: 0.2' >t/merges.txt
$GPT tokenizer encode --tokenizer t
