echo "one<|endoftext|>two" | $GPT tokenizer encode --tokenizer "$ROOT/test/golden/tokenizer" --special refuse
