$GPT tokenizer encode --tokenizer "$ROOT/test/golden/tokenizer" --special maybe
