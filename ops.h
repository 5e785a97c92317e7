/* ops.h - floor 1: the op table. What a back end must do, at the granularity at which it can do it fused.
 *
 * B batch, T time, n = B*T rows, C channels, V vocabulary, Vp vocabulary padded to a multiple of 128, NH heads,
 * HS head size. Rows are contiguous. The CPU (cpu.c) and CUDA (gpt.cu) tables pass the same tests (test/ops/).
 *
 * Results depend on the arguments only: never on the number of threads, never on the run. Reductions have a
 * fixed order. Pointers are the back end's memory (`alloc`), except where "host" is said. Nothing here
 * allocates but `alloc`, `start`, `linear_create` and `replay`. Backward ops write gradients of activations, and
 * add to the gradients of parameters if `accumulate`, else overwrite them.
 *
 * Ops are queued, and run in order; the host goes on. Only `to_host`, `answer`, `wait` and `release` wait. On the CPU
 * an op is done when its call returns. */
#ifndef GPT_OPS_H
#define GPT_OPS_H

#include "util.h"

/* The last two are asked for as `compute` only. DT_TF32: linear layers take fp32 and multiply its upper 19 bits. DT_F8:
 * they take bf16 and round it to e4m3 forward and e5m2 for gradients, with one scale a tensor (Micikevicius et al.
 * 2022). */
typedef enum { DT_F32, DT_BF16, DT_TF32, DT_F8 } Dtype;
static inline size_t dtype_size(Dtype d) {
    return d == DT_BF16 ? 2 : 4;
}
/* Of the tensors that such linear layers take and give. */
static inline Dtype dtype_of_tensors(Dtype compute) {
    return compute == DT_BF16 || compute == DT_F8 ? DT_BF16 : DT_F32;
}

/* A borrowed pointer with its dtype; p == NULL: absent. The shape is said beside each use. */
typedef struct Tensor {
    void *p;
    Dtype dtype;
} Tensor;
static inline Tensor tensor(void *p, Dtype d) {
    return (Tensor){p, d};
}
#define NO_TENSOR ((Tensor){0})
/* The same tensor from element `at` on. */
static inline Tensor tensor_at(Tensor t, int64_t at) {
    return (Tensor){t.p ? (char *)t.p + at * (int64_t)dtype_size(t.dtype) : NULL, t.dtype};
}

/* Dropout is recomputed, never stored. Element i of the tensor that would exist if the whole global batch were
 * one tensor is kept iff word i % 4 of philox4x32(seed, RAND_DROPOUT << 40 | step << 12 | site, i / 4) is at
 * least p * 2^32, and kept values are scaled by 1 / (1 - p). For an [n, C] activation i = (row0 + row) * C + c.
 * `site` numbers the places in the model (0: embedding, then three a layer). p == 0: no dropout. */
typedef struct Dropout {
    float p;
    uint64_t seed, step;
    uint32_t site;
    uint64_t row0; /* global row (sequence * T + t) of this tensor's first row */
} Dropout;

typedef enum { ACT_NONE, ACT_GELU } Act; /* GELU is the tanh form (Hendrycks & Gimpel 2016; "gelu_new") */

/* y = act(x W + bias). The pass never sees the numbers of W: the back end keeps its own prepared copies of the
 * fp32 master (bf16, packed for its matrix product, transposed for backward; int8, low-rank deltas to come). */
typedef struct Linear Linear;
typedef struct LinearSpec {
    int64_t in, out;
    bool out_major;   /* the master is [out, in] (a head tied to wte); else [in, out] (Conv1D) */
    float *w;         /* fp32 master */
    float *dw;        /* fp32 gradient, same layout as the master; NULL: never trained */
    Dtype compute;    /* dtype of the operands; accumulation is fp32 */
    int64_t max_rows; /* largest n that will be asked for */
    uint16_t *copy;   /* [as the master] bf16, this weight's part of the mirror; NULL without one */
} LinearSpec;

/* What one rank sees of a row of logits; see classifier_part. */
typedef struct ClassPart {
    float max, sum; /* sum of exp(logit - max); without columns: -inf, 0 */
    float target;   /* the target's logit, if it is among this rank's columns; else 0 */
    int32_t best;   /* argmax, of the whole vocabulary; -1 without columns */
} ClassPart;

/* Causal self-attention: row t attends to rows max(0, t - window + 1) .. t (window 0: all of 0 .. t). */
typedef struct Attention {
    int B, T, NH, HS;
    int head0, NH_total; /* tensor parallelism: this rank has heads head0 .. head0 + NH of NH_total */
    int window;
    float scale;  /* of q k^T, before the softmax */
    Dropout drop; /* on the probabilities: i = (((row0 / T + b) * NH_total + head0 + h) * T + t) * T4 + s, */
                  /* where T4 is T rounded up to a multiple of 4 */
} Attention;

/* What a step came to. It lives in the back end's memory: the optimizer reads it there, the host when it likes. */
typedef struct Verdict {
    double loss;      /* mean over the global batch, in nats */
    double grad_norm; /* of all gradients, before clipping */
    float grad_scale; /* clipping: the optimizer multiplies gradients by it */
    int32_t skip;     /* not 0: loss or norm is not finite, or the loss a spike; no weight changes */
} Verdict;

typedef struct AdamW {
    float lr, beta1, beta2, eps, weight_decay;
    uint64_t step; /* from 1: bias correction is exact, 1 - beta^step, computed in double */
    /* The mirror is rounded up or down at random, so that it is right on average: of a finite w[i]'s bits plus the upper
     * half of word (first + i) % 4 of philox4x32(seed, RAND_ROUND << 40 | step, (first + i) / 4) the upper half stays. */
    bool stochastic;
    uint64_t seed, first;
} AdamW;

/* Muon (Jordan et al. 2024) on one weight, which is `parts` matrices side by side, [rows, parts, cols] in memory
 * (attention's q, k and v), each with a direction of its own. Element i is numbered and rounded as by AdamW. */
typedef struct Muon {
    int64_t rows, cols, parts; /* at most MUON_PARTS */
    float momentum;
    float
        size; /* the direction, whose singular values are about 1, times this is what the weight moves by at lr 1 */
    float lr, weight_decay;
    uint64_t step;
    bool stochastic;
    uint64_t seed, first;
} Muon;
enum { MUON_PARTS = 3 };

/* `batch` matrices in bf16: number (r, c) of matrix i is p[i * step + r * row + c]. */
typedef struct Matrices {
    uint16_t *p;
    int64_t row, step;
} Matrices;

typedef struct Matmul {
    int64_t batch, M, N, K;
    bool turn_a, turn_b; /* that operand lies as its transpose: a as [K, M], b as [N, K] */
    float alpha, beta;
} Matmul;

/* Ops recorded as one, to be run again and again: a CUDA graph. */
typedef struct Graph Graph;

typedef struct Ops {
    const char *name; /* "cpu", "cuda" */
    bool queues;      /* does the host gain by asking for a step's verdict and going on? */
    size_t
        logits_bytes; /* enough rows of logits for an efficient product, few enough to be small beside the rest */

    /* Once, first. threads <= 0: all cores. May note() what it found. */
    bool (*start)(int threads, Err *e);
    /* One line: "AMD EPYC 9B14, 2 threads, AVX-512 bf16". */
    void (*describe)(char *buf, size_t n);
    bool (*has)(Dtype compute); /* is it faster than fp32 here? */
    Dtype (*stream)(
        Dtype compute); /* dtype of the residual stream, its gradient, and the logits in training */
    bool (*mirror)(Dtype compute); /* are weights to have a bf16 mirror, which the optimizer writes? */
    /* Multiply-adds x 2 per second: of all threads, probed once (~20 ms); of a GPU, what its maker says. */
    double (*peak_flops)(Dtype compute);
    size_t (*room)(void); /* bytes that can still be allocated */

    void *(*alloc)(size_t bytes, const char *what, Err *e); /* zeroed, 64-byte aligned (a GPU's: 256) */
    void (*release)(void *p);
    /* Threads may call it at once; the host's memory is free again when it returns. */
    void (*to_device)(void *dst, const void *host, size_t bytes);
    void (*to_host)(void *host, const void *src, size_t bytes); /* waits for all that was queued before */
    void (*zero)(void *p, size_t bytes);
    void (*copy)(void *dst, const void *src, size_t bytes);
    void (*wait)(void);
    void *(*queue)(void); /* a GPU's: the stream that ops are queued in (cudaStream_t); else NULL */
    /* Reading without waiting: `ask` for up to 256 bytes as they will be at this point of the queue, `answer` gets them.
     * One question at a time. */
    void (*ask)(const void *src, size_t bytes);
    void (*answer)(void *host, size_t bytes);

    /* Runs the ops recorded under (*g, key) and returns true; or returns false, and records those that are called
     * from here to `replay_end`, which runs them. All their arguments must be the same each time. A back end without
     * graphs returns false, and runs them at once. *g is NULL at first. */
    bool (*replay)(Graph **g, uint64_t key);
    void (*replay_end)(Graph **g);
    void (*graph_free)(Graph *g);

    /* ---- linear ---- */
    size_t (*linear_bytes)(const LinearSpec *s); /* memory for the prepared copies, for the plan */
    Linear *(*linear_create)(const LinearSpec *s, Err *e);
    void (*linear_free)(Linear *l);
    /* The master, or the bias, has changed; once before the first use. mirrored: the optimizer has written the mirror
     * already. */
    void (*linear_refresh)(Linear *l, bool mirrored);
    /* y [n, out] = act(x [n, in] W + bias [out] or NULL); pre [n, out], if present, gets the value before act. */
    void (*linear_forward)(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                           int64_t n);
    /* dx [n, in] (if present) = dy [n, out] W^T, times act'(pre) if `act`: pre [n, in] is then what the op that
     * made x kept; if `again`, x was not kept, and is written first, act(pre) once more. dw (+)= x^T dy. dbias [out]
     * (if not NULL) (+)= sum of the rows of dy. */
    void (*linear_backward)(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, bool again, Linear *l,
                            float *dbias, bool accumulate, int64_t n);

    /* ---- residual + norm (Ba et al. 2016) ---- */
    /* x [n, C] = x_in + dropout(delta); h = (x - mean) * rstd * g + b; mean, rstd [n] fp32 kept for backward.
     * Without delta, x is x_in and x_out is not written. x_out may be x_in. g NULL: no norm; h, mean and rstd are
     * absent, and only x is written. */
    void (*norm_forward)(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta,
                         const float *g, const float *b, float eps, int64_t n, int64_t C, Dropout drop);
    /* dx_in [n, C] (may be absent: 0) is the gradient that reaches the stream from above, dh that of the norm's
     * output (may be absent). post == false: dx = dx_in + norm'(dh); post == true: dx = norm'(dx_in + dh), for a
     * stream that goes through the norm. ddelta (if present) = dropout'(dx). dx may be dx_in; dg, db [C]. g NULL: no
     * norm, norm' is the identity; x, mean, rstd, dg and db are absent. */
    void (*norm_backward)(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                          const float *rstd, const float *g, float *dg, float *db, bool accumulate, bool post,
                          int64_t n, int64_t C, Dropout drop);

    /* ---- attention (FlashAttention-2, Dao 2023: online softmax over tiles; memory linear in T) ---- */
    /* qkv [B, T, 3, NH, HS] -> out [B, T, NH, HS]; lse [B, NH, T]: log of the sum of exp of each row's scores. */
    void (*attention_forward)(Tensor out, float *lse, Tensor qkv, const Attention *a);
    void (*attention_backward)(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                               const Attention *a);
    /* Serving: a flat list of n tokens, token i at position pos[i] of cache slot slot[i] (B, T unused). First
     * stores the n keys and values at k, v [slots, NH, capacity, HS], then lets each token attend to positions
     * 0 .. pos[i] (or its window) of its slot. Tokens of one slot stand in a row with rising positions. */
    void (*attention_cached)(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity,
                             const int32_t *slot, const int32_t *pos, int64_t n, const Attention *a);

    /* ---- embedding ---- */
    /* x [n, C] = dropout(wte[tokens] + wpe[pos]); pos NULL: row % T. wpe NULL: nothing is added. A token of -1 has no
     * row, here and in backward: another rank of the tensor group has it. */
    void (*embed_forward)(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte,
                          const float *wpe, int64_t n, int64_t T, int64_t C, Dropout drop);
    /* From dx + dh [n, C] (dh may be absent): dwte [Vp, C] always adds; dwpe [T.., C] per `accumulate`: rows
     * beyond T are left alone, so the caller zeroes it once. Either may be NULL. */
    void (*embed_backward)(float *dwte, float *dwpe, Tensor dx, Tensor dh, const int32_t *tokens, int64_t n,
                           int64_t T, int64_t C, bool accumulate, Dropout drop);

    /* ---- classifier: softmax, cross-entropy and its gradient ---- */
    /* logits [n, Vp], of which columns V.. are ignored. loss [n] = -log softmax(logits)[target], in nats;
     * target -1: loss 0, no gradient. dlogits [n, Vp] (if present; may be logits if of the same dtype) =
     * (softmax - onehot) * scale, zeros beyond V. best [n] (if not NULL) = argmax, the lowest on ties. */
    void (*classifier)(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const int32_t *targets,
                       float scale, int64_t n, int64_t V, int64_t Vp);

    /* The same over a vocabulary split between ranks, of which this one has columns first .. first + V, in two steps.
     * Each rank says what it sees of a row; all say it to all, and then each has what it needs: loss and gradient as
     * above, without logits going over the wire. targets and best are of the whole vocabulary. V may be 0. */
    void (*classifier_part)(ClassPart *part, Tensor logits, const int32_t *targets, int64_t first, int64_t n,
                            int64_t V, int64_t Vp);
    /* parts [ranks, n], of all ranks in order. */
    void (*classifier_join)(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const ClassPart *parts,
                            int ranks, const int32_t *targets, int64_t first, float scale, int64_t n,
                            int64_t V, int64_t Vp);

    /* ---- optimizer ---- */
    /* *out = a 64-bit hash of n words, that any flipped bit changes; the same on every back end: the sum mod 2^64 over i
     * of mix(x[i] + (i << 32)), where mix is splitmix64's finalizer (Steele et al. 2014). */
    void (*checksum)(uint64_t *out, const uint32_t *x, int64_t n);
    /* *out (+)= the sum of n elements (of their squares), in double, in a fixed order. */
    void (*sum)(double *out, const float *x, int64_t n, bool accumulate);
    void (*sum_squares)(double *out, const float *g, int64_t n, bool accumulate);
    /* v->loss = *losses * scale, v->grad_norm = sqrt(*squares), v->grad_scale = min(1, max_norm / grad_norm) (1 if
     * max_norm is 0), v->skip = not finite, or loss > worst. */
    void (*judge)(Verdict *v, const double *losses, const double *squares, double scale, double worst,
                  double max_norm);
    /* One pass over n elements of w, m, v, g: Adam with decoupled weight decay (Loshchilov & Hutter 2019). mirror [n]
     * (if not NULL) gets w rounded to bf16. Nothing happens if verdict->skip. */
    void (*adamw)(float *w, float *m, float *v, const float *g, uint16_t *mirror, int64_t n, const AdamW *a,
                  const Verdict *verdict);

    /* Muon in four: the momentum, m = momentum m + (1 - momentum) g, with g times verdict->grad_scale, and
     * squares [parts] = the sums over each part of u^2, where u = momentum m + (1 - momentum) g (Nesterov). Nothing
     * happens if verdict->skip. */
    void (*muon_momentum)(double *squares, float *m, const float *g, const Muon *a, const Verdict *verdict);
    /* x [as m] = u / sqrt(squares), in bf16; a part without a gradient stays 0. */
    void (*muon_direction)(uint16_t *x, const float *m, const float *g, const double *squares, const Muon *a,
                           const Verdict *verdict);
    /* c [M, N] = alpha a [M, K] b [K, N] + beta add [M, N] for each of the batch, summed in fp32; add lies as c does, or
     * is NULL and beta 0. c overlaps none of the others. */
    void (*matmul)(Matrices c, Matrices a, Matrices b, const uint16_t *add, const Matmul *m);
    /* w -= lr (size x + weight_decay w), and the mirror (if not NULL) gets w. Nothing happens if verdict->skip. */
    void (*muon_update)(float *w, uint16_t *mirror, const uint16_t *x, const Muon *a, const Verdict *verdict);
} Ops;

/* What a precision's name ("auto", "fp32", "bf16", "tf32", "fp8") means on this back end: auto is bf16 where that is
 * faster. Error: tf32 or fp8 where there is none (bf16 works everywhere, if slowly). */
bool ops_precision(const Ops *ops, const char *name, Dtype *compute, Err *e);
extern const char *const dtype_names[]; /* by Dtype */
/* The table for train.device: "cpu"; "cuda"; or "auto", a GPU if there is one. */
const Ops *ops_choose(const char *device, Err *e);
/* Which of several GPUs `start` takes, counted around; 0 if nothing is said. comm_start says it for the ranks of a host. */
void ops_take_gpu(int which);
int ops_gpu(void);
extern const Ops cpu_ops;
/* What CUDA's table says of sizes and types, and nothing else: to measure for GPUs that are not here. */
extern const Ops ops_to_plan;

#endif
