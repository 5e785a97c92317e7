echo "1 2 400" | $GPT tokenizer decode --tokenizer "$ROOT/test/golden/tokenizer"
