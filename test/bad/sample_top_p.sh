$GPT sample --model run --top-p 1.5
