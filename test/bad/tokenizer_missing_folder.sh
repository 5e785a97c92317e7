$GPT tokenizer encode --tokenizer nowhere
