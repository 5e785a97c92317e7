head -c 4000 "$ROOT/test/golden/tokenizer/tokenizer.json" >tokenizer.json
$GPT tokenizer encode --tokenizer tokenizer.json
