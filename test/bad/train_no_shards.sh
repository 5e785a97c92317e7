$GPT train --config "$ROOT/configs/gpt2-124m.json" --set tokenizer=
