/* bench.h - floor 5: what this machine does, as shares of what it could do at most. */
#ifndef GPT_BENCH_H
#define GPT_BENCH_H

#include "gpt.h"

/* Prints a table: linear layers and attention at GPT-2 124M's shapes, a training step and decoding of that model.
 * Products as shares of the peak of multiply-adds, decoding as a share of the rate at which memory can be read, both
 * probed right beside each measurement. Medians of five. */
bool bench_run(const Ops *ops, Dtype compute, Err *e);

#endif
