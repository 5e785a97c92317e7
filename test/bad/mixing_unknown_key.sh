"$GPT" train --config "$ROOT/configs/shakespeare.json" --set 'data.train=[{"path": "a", "epoch": 4}]'
