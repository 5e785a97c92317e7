$GPT eval --model run
