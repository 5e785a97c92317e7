echo "1 2 three" | $GPT tokenizer decode --tokenizer "$ROOT/test/golden/tokenizer"
