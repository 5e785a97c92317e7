. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json 2>/dev/null
sed 's/: [-0-9.e+]*/: N/g' runs/tiny/metrics.jsonl
$GPT train --config config.json --set name=again train.sample_interval=6 2>&1 | grep -c 'a sample at step 6'
grep -E '"(vocab_size|seq_len|lr)"' runs/tiny/config.json
