$GPT train --config "$ROOT/configs/gpt2-124m.json" --set train.seq_len=2048
