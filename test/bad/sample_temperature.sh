$GPT sample --model run --temperature hot
