$GPT tokenizer encode
