$GPT train --config "$ROOT/configs/gpt2-124m.json" --set train.micro_batch_size=7
