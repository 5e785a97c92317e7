"$GPT" data demo --bytes 1M
