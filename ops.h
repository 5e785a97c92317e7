/* ops.h - floor 1: the op table. What a back end must do, at the granularity at which it can do it fused.
 *
 * B batch, T time, n = B*T rows, C channels, V vocabulary, Vp vocabulary padded to a multiple of 128, NH heads,
 * HS head size. Rows are contiguous. The CPU (cpu.c) and CUDA (gpt.cu) tables pass the same tests (test/ops/).
 *
 * Results depend on the arguments only: never on the number of threads, never on the run. Reductions have a
 * fixed order. Pointers are the back end's memory (`alloc`), except where "host" is said. Nothing here
 * allocates but `alloc`, `start` and `linear_create`. Backward ops write gradients of activations, and add to
 * the gradients of parameters if `accumulate`, else overwrite them. */
#ifndef GPT_OPS_H
#define GPT_OPS_H

#include "util.h"

typedef enum { DT_F32, DT_BF16 } Dtype;
static inline size_t dtype_size(Dtype d) {
    return d == DT_F32 ? 4 : 2;
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
} LinearSpec;

/* Causal self-attention: row t attends to rows max(0, t - window + 1) .. t (window 0: all of 0 .. t). */
typedef struct Attention {
    int B, T, NH, HS;
    int head0, NH_total; /* tensor parallelism: this rank has heads head0 .. head0 + NH of NH_total */
    int window;
    float scale;  /* of q k^T, before the softmax */
    Dropout drop; /* on the probabilities: i = (((row0 / T + b) * NH_total + head0 + h) * T + t) * T4 + s, */
                  /* where T4 is T rounded up to a multiple of 4 */
} Attention;

typedef struct AdamW {
    float lr, beta1, beta2, eps, weight_decay;
    float grad_scale; /* clipping: gradients are multiplied by it first */
    uint64_t step;    /* from 1: bias correction is exact, 1 - beta^step, computed in double */
} AdamW;

typedef struct Ops {
    const char *name; /* "cpu", "cuda" */

    /* Once, first. threads <= 0: all cores. May note() what it found. */
    bool (*start)(int threads, Err *e);
    /* One line: "AMD EPYC 9B14, 2 threads, AVX-512 bf16". */
    void (*describe)(char *buf, size_t n);
    bool (*has)(Dtype compute); /* is it faster than fp32 here? */
    double (*peak_flops)(
        Dtype compute); /* multiply-adds x 2 per second of all threads, probed once (~20 ms) */

    void *(*alloc)(size_t bytes, const char *what, Err *e); /* zeroed, 64-byte aligned */
    void (*release)(void *p);
    void (*to_device)(void *dst, const void *host, size_t bytes);
    void (*to_host)(void *host, const void *src, size_t bytes); /* waits */
    void (*zero)(void *p, size_t bytes);

    /* ---- linear ---- */
    size_t (*linear_bytes)(const LinearSpec *s); /* memory for the prepared copies, for the plan */
    Linear *(*linear_create)(const LinearSpec *s, Err *e);
    void (*linear_free)(Linear *l);
    void (*linear_refresh)(Linear *l); /* the master has changed; once before the first use */
    /* y [n, out] = act(x [n, in] W + bias [out] or NULL); pre [n, out], if present, gets the value before act. */
    void (*linear_forward)(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                           int64_t n);
    /* dx [n, in] (if present) = dy [n, out] W^T, times act'(pre) if `act`: pre [n, in] is then what the op that
     * made x kept, and x need not have been kept: it is written, act(pre) again. dw (+)= x^T dy. dbias [out] (if not
     * NULL) (+)= sum of the rows of dy. */
    void (*linear_backward)(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, Linear *l, float *dbias,
                            bool accumulate, int64_t n);

    /* ---- residual + norm (Ba et al. 2016) ---- */
    /* x [n, C] = x_in + dropout(delta); h = (x - mean) * rstd * g + b; mean, rstd [n] fp32 kept for backward.
     * Without delta, x is x_in and x_out is not written. x_out may be x_in. */
    void (*norm_forward)(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta,
                         const float *g, const float *b, float eps, int64_t n, int64_t C, Dropout drop);
    /* dx_in [n, C] (may be absent: 0) is the gradient that reaches the stream from above, dh that of the norm's
     * output (may be absent). post == false: dx = dx_in + norm'(dh); post == true: dx = norm'(dx_in + dh), for a
     * stream that goes through the norm. ddelta (if present) = dropout'(dx). dx may be dx_in; dg, db [C]. */
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
    /* x [n, C] = dropout(wte[tokens] + wpe[pos]); pos NULL: row % T. */
    void (*embed_forward)(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte,
                          const float *wpe, int64_t n, int64_t T, int64_t C, Dropout drop);
    /* From dx + dh [n, C] (dh may be absent): dwte [Vp, C] always adds; dwpe [T.., C] per `accumulate`: rows
     * beyond T are left alone, so the caller zeroes it once. */
    void (*embed_backward)(float *dwte, float *dwpe, Tensor dx, Tensor dh, const int32_t *tokens, int64_t n,
                           int64_t T, int64_t C, bool accumulate, Dropout drop);

    /* ---- classifier: softmax, cross-entropy and its gradient ---- */
    /* logits [n, Vp] fp32, of which columns V.. are ignored. loss [n] = -log softmax(logits)[target], in nats;
     * target -1: loss 0, no gradient. dlogits [n, Vp] (if present; may be logits when fp32) =
     * (softmax - onehot) * scale, zeros beyond V. best [n] (if not NULL) = argmax, the lowest on ties. */
    void (*classifier)(Tensor dlogits, float *loss, int32_t *best, const float *logits,
                       const int32_t *targets, float scale, int64_t n, int64_t V, int64_t Vp);

    /* ---- optimizer ---- */
    double (*sum_squares)(const float *g, int64_t n); /* to the host; fixed order, double */
    double (*sum)(const float *x, int64_t n);         /* likewise */
    /* One pass over n elements of w, m, v, g: Adam with decoupled weight decay (Loshchilov & Hutter 2019). */
    void (*adamw)(float *w, float *m, float *v, const float *g, int64_t n, const AdamW *a);
} Ops;

/* The table for train.device: "cpu" ("cuda" and "auto" when gpt.cu is here). */
const Ops *ops_choose(const char *device, Err *e);
extern const Ops cpu_ops;

#endif
