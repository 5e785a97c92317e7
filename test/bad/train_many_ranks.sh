. "$ROOT/test/cli/tiny_run.inc"
# What MPI never frees is not ours to report.
ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0" OMPI_COMM_WORLD_SIZE=4 $GPT train --config config.json
