. "$ROOT/test/cli/tiny_run.inc"
OMPI_COMM_WORLD_SIZE=4 $GPT train --config config.json
