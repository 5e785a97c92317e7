/* train.h - floor 6: the loop. Accumulate, step, log, evaluate, checkpoint, stop cleanly. */
#ifndef GPT_TRAIN_H
#define GPT_TRAIN_H

#include "config.h"

typedef struct TrainOptions {
    bool resume, overwrite;
} TrainOptions;

/* Runs the whole of a config. Returns true when max_steps are done, false with e->code EXIT_STOPPED after a clean stop
 * (signal or time limit) with everything saved, false with another code on an error. */
bool train_run(const Config *c, const TrainOptions *o, Err *e);
#endif
