/* bench.h - floor 5: what this machine does, as shares of what it could do at most. */
#ifndef GPT_BENCH_H
#define GPT_BENCH_H

#include "gpt.h"

/* Prints a table: linear layers, attention, what waits for memory, a training step and decoding of GPT-2 124M.
 * Products as shares of the peak of multiply-adds (of a GPU: of what an 8192-cubed product reaches), the rest of the
 * rate at which memory can be read (of a GPU: copied), all measured right beside each other. Medians of five. */
bool bench_run(const Ops *ops, Dtype compute, Err *e);

#endif
