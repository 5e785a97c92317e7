sed "s/\"type\":\"BPE\"/\"type\":\"Unigram\"/" "$ROOT/test/golden/tokenizer/tokenizer.json" >tokenizer.json
$GPT tokenizer encode --tokenizer tokenizer.json
