echo "99999999999999999999" | $GPT tokenizer decode --tokenizer "$ROOT/test/golden/tokenizer"
