"$GPT" train --config "$ROOT/configs/shakespeare.json" --set data.mixing=exp3 mixing.floor=0.6 \
    'data.train=[{"path": "a", "val": "b"}, {"path": "c", "val": "d"}]'
