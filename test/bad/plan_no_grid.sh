$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpus 1009 --gpu h100
