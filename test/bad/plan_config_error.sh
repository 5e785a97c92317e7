$GPT plan --config "$ROOT/configs/gpt2-124m.json" --gpus 8 --gpu h100 --set train.seq_len=4096
