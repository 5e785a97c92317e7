$GPT train
