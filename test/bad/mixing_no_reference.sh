"$GPT" train --config "$ROOT/configs/shakespeare.json" --set data.mixing=doremi 'data.train={"path": "a", "val": "b"}'
