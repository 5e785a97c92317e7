/* cost.h - floor 4: how long a training step takes on a machine of GPUs, from their data sheets and one constant.
 *
 * A step is products, passes over memory, and messages, each at a share of the best that the GPU does: the same share for
 * all three, COST_EFFICIENCY, found once (the 22B row of Korthikanti et al. 2022) and held against all other published
 * rows in test/unit/test_cost.c. A pipeline is played through by its schedule, task by task. */
#ifndef GPT_COST_H
#define GPT_COST_H

#include "gpt.h"

/* A GPU and its place in a machine; rates a second, of data sheets but for what products and attention reach. */
typedef struct Gpu {
    const char *name, *title;
    double memory; /* bytes, as the driver counts them */
    int units;     /* multiprocessors */
    bool fp8;
    double tensor;    /* FLOPs in bf16, dense */
    double product;   /* of these, what a large matrix product reaches */
    double plain;     /* FLOPs in fp32 */
    double attention; /* FLOPs that FlashAttention-2 reaches, causal, forward and backward */
    double bandwidth; /* bytes from and to its memory */
    double link;      /* bytes to the GPUs of its node, each way */
    int node;         /* GPUs a node */
    double network;   /* bytes to other nodes, each way: a GPU's share of its node's */
} Gpu;
const Gpu *gpu_find(const char *name, Err *e); /* the error lists those there are */

/* How a program goes about a step. Traffic is counted in elements read and written for each element of a tensor,
 * beside what the products themselves read and write. */
typedef struct Habits {
    double stream[2]; /* [rows, C], a layer: norms, dropout, residuals; forward, backward */
    double hidden[2]; /* [rows, n_inner]: GELU */
    double scores[3]; /* [NH, T, T] of attention that stores its scores: forward, backward, and made again; */
                      /* zeros: FlashAttention */
    double logits;    /* [rows, vocabulary]: softmax, loss, gradient */
    bool scores_again;    /* "selective recomputation": backward makes the scores again */
    bool down_again;      /* full recomputation includes a layer's last product */
    double optimizer;     /* bytes a weight */
    double gradient_size; /* bytes of a gradient that ranks sum */
    bool hides_tensor, hides_data, hides_weights; /* messages that go while the GPU computes */
} Habits;
extern const Habits gpt_habits; /* ours */

#define COST_EFFICIENCY 0.91

typedef struct Job {
    const ModelConfig *model;
    GptOptions o; /* ops unused; grid: its sizes */
    bool muon;    /* its optimizer, for the matrices inside the layers */
    const Gpu *gpu;
    const Habits *habits;
    double efficiency;
} Job;

typedef enum { BY_TENSOR, BY_SEQUENCE, BY_PIPELINE, BY_DATA, BY_TIED, N_TRAFFIC } TrafficKind;
extern const char *const traffic_names[N_TRAFFIC];

/* Of the GPU that sends most: a step. exposed: what the step is longer by, as the GPU waits, or computes with fewer of
 * its units. */
typedef struct Traffic {
    double bytes, seconds, exposed;
} Traffic;

/* What a step costs. seconds = compute + optimizer + bubble + what of the traffic is exposed. */
typedef struct Cost {
    double model_flops, hardware_flops; /* all GPUs; hardware: as computed, recomputation and all */
    double compute;                     /* seconds, of the busiest stage */
    double optimizer, bubble;
    Traffic traffic[N_TRAFFIC];
    double seconds;
} Cost;
Cost cost_of(const Job *j);

/* Seconds that a pipeline takes for a step: part k of the model, which is chunk k / pp of stage k % pp, takes forward[k]
 * and backward[k] a micro step, and a message `hop` from one stage to the next. */
double cost_pipeline(int pp, int chunks, int64_t micros, const double *forward, const double *backward,
                     double hop);

#endif
