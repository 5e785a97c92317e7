$GPT train --config "$ROOT/configs/gpt2-124m.json" --set train.max_step=10
