echo "1 -2" | $GPT tokenizer decode --tokenizer "$ROOT/test/golden/tokenizer"
