"$GPT" train --config "$ROOT/configs/shakespeare.json" --set data.shuffle=false 'data.train={"path": "a", "epochs": 2}'
