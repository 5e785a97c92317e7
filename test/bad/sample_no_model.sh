$GPT sample --prompt hello
