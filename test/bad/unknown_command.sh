$GPT trian --config x.json
