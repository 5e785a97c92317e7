$GPT train --config "$ROOT/configs/gpt2-124m.json" --set model.n_head=7
