$GPT sample --model run --stop ""
