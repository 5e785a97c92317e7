#!/bin/sh
# Our matrix products against oneDNN's, at GPT-2's shapes: builds and runs matmul.c. Needs oneDNN with its header
# (Debian: libdnnl-dev); the program itself does not.
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory CUDA= BUILD=build-bench build-bench/bench-matmul && build-bench/bench-matmul
