sed "s/\"type\":\"ByteLevel\"/\"type\":\"Whitespace\"/" "$ROOT/test/golden/tokenizer/tokenizer.json" >tokenizer.json
$GPT tokenizer encode --tokenizer tokenizer.json
