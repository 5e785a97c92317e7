#!/bin/sh
# Our matrix products against oneDNN's, at GPT-2's shapes: builds and runs matmul.c. Needs oneDNN with its header
# (Debian: libdnnl-dev); the program itself does not.
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/ops.o build/cpu.o build/cpu_kernel.o build/cpu_linear.o build/cpu_attention.o build/util.o || exit 1
"${CC:-gcc}" -std=c11 -D_GNU_SOURCE -O2 -fopenmp -I. scripts/bench/matmul.c build/cpu.o build/cpu_*.o build/util.o \
    -o build/bench-matmul -ldnnl -lz -lm && build/bench-matmul
