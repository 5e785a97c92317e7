$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpu h100
