"$GPT" train --config "$ROOT/configs/shakespeare.json" --set 'data.train=[{"path": "a"}, {"path": "b", "weight": -1}]'
