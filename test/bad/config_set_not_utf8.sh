$GPT train --config "$ROOT/configs/gpt2-124m.json" --set "name=$(printf 'caf\351')"
