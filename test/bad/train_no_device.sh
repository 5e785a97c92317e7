. "$ROOT/test/cli/tiny_run.inc"
CUDA_VISIBLE_DEVICES=-1 $GPT train --config config.json --set train.device=cuda
