$GPT convert --model m --to hf --out out
