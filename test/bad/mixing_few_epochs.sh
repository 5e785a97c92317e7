. "$ROOT/test/cli/three_sources.inc"
"$GPT" train --config config.json --set name=m 'data.train=[{"path": "a/train_*.bin", "epochs": 0.0625}, {"path": "b/train_*.bin", "epochs": 0.01}]'
