$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpus 8 --gpu a100 --set train.precision=fp8
