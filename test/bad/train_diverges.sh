. "$ROOT/test/cli/tiny_run.inc"
$GPT train --config config.json --set optimizer.lr=100 optimizer.max_grad_norm=0 train.max_steps=200 train.max_skips=3 train.eval_interval=0 train.log_interval=1000 train.checkpoint_interval=0 model.initializer_range=10 2>&1 | grep skipped; exit 1
