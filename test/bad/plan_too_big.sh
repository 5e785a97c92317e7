$GPT plan --config "$ROOT/configs/gpt3-175b.json" --gpus 8 --gpu h100
