/* plan.h - floor 5: the arithmetic of a run before it is paid for: what it needs of each GPU's memory, how long it takes,
 * and which grid of GPUs does it soonest. Memory is asked of the functions that training allocates by (gpt_memory,
 * optim_bytes), time of cost.h. */
#ifndef GPT_PLAN_H
#define GPT_PLAN_H

#include "config.h"
#include "cost.h"

/* What a run is planned for. */
typedef struct PlanAsk {
    const Gpu *gpu;
    int gpus;
    double tokens; /* 0: train.max_steps of the config */
    double price;  /* of a GPU for an hour; 0: not known */
} PlanAsk;

/* A config on a grid. */
typedef struct Plan {
    GptOptions o;
    int stage;        /* the stage whose ranks need most memory: */
    GptMemory memory; /* bytes of one of them */
    size_t optimizer, total;
    Cost cost;
    double days;
} Plan;

extern const char *const recompute_names[]; /* by Recompute */

/* What micro_batch_size 0 is: the largest divisor of a data rank's share of the batch with at most 4096 tokens. */
int64_t plan_micro_batch(const Config *c, int dp);
/* What training makes the model with: the config's choices on this grid, of which rank it is. */
GptOptions plan_options(const Config *c, const Ops *ops, Dtype compute, const Grid *g);
/* Bytes that a rank of these options allocates; their sum in *total. */
bool plan_memory(const Config *c, const GptOptions *o, GptMemory *m, size_t *optimizer, size_t *total,
                 Err *e);
/* Bytes of a GPU that a run can allocate: what the driver, NCCL, and a program beside its plan need is taken off. */
double plan_room(const PlanAsk *ask);

/* A plan for these options, of whose grid only the sizes count. Errors: no such grid; rank's batches. */
bool plan_make(Plan *p, const Config *c, const PlanAsk *ask, const GptOptions *o, Err *e);
/* The best plan of each grid that has any that fits, the soonest done first: at most `most` of them; returns how many.
 * None is an error, which says what would be needed. */
int plan_search(Plan *best, int most, const Config *c, const PlanAsk *ask, Err *e);

/* All of it as text or as JSON. The config is resolved as training does it. */
bool plan_report(Config *c, const PlanAsk *ask, bool json, Str *out, Err *e);

#endif
