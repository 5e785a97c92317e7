"$GPT" train --config "$ROOT/configs/shakespeare.json" --set data.mixing=exp3 'data.train=[{"path": "a", "val": "av"}, {"name": "books", "path": "b"}]'
