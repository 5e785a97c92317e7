$GPT sample --model run --interactive --prompt hello
