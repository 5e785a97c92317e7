/* cuda_sizes.h - floor 1: how much gpt.cu allocates, and in which types: arithmetic that needs no GPU, so that a run on
 * GPUs can be planned where there are none (ops_to_plan in ops.c). */
#ifndef GPT_CUDA_SIZES_H
#define GPT_CUDA_SIZES_H

#include "ops.h"

#define CUDA_LOGITS_BYTES \
    ((size_t)1 << 30) /* 10,000 rows of GPT-2's: the head's gradient is read and written only so often */

/* What a program needs beside its plan: workspace for fp8 operands, algorithms and kernels that load later,
 * graphs, and what splitting memory into pieces wastes. */
#define CUDA_RESERVE_BYTES ((size_t)768 << 20)

static inline Dtype cuda_stream_dtype(Dtype compute) {
    return dtype_of_tensors(compute);
}

static inline bool cuda_has_mirror(Dtype compute) {
    return dtype_of_tensors(compute) == DT_BF16;
}

/* What a linear keeps, one after the other, each rounded up to 256 bytes; what is not needed has none. */
typedef struct CudaLinearSizes {
    size_t w;              /* bf16, unless there is a mirror */
    size_t bias;           /* [out] bf16 */
    size_t dbias;          /* [out] fp32 */
    size_t out_in, in_out; /* [out, in], [in, out] in e4m3 */
    size_t scale;          /* [3] of 8 bytes */
} CudaLinearSizes;

static inline bool cuda_linear_is_fp8(const LinearSpec *s) {
    return s->compute == DT_F8 && s->in % 16 == 0 && s->out % 16 == 0;
}

static inline size_t cuda_round_up(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static inline CudaLinearSizes cuda_linear_sizes(const LinearSpec *s) {
    const bool half = dtype_of_tensors(s->compute) == DT_BF16, f8 = cuda_linear_is_fp8(s);
    const size_t out = (size_t)s->out, all = (size_t)(s->in * s->out);
    CudaLinearSizes n;
    n.w = cuda_round_up(half && !s->copy ? all * 2 : 0);
    n.bias = cuda_round_up(half ? out * 2 : 0);
    n.dbias = cuda_round_up(s->dw ? out * sizeof(float) : 0);
    n.out_in = cuda_round_up(f8 ? all : 0);
    n.in_out = cuda_round_up(f8 && s->dw ? all : 0);
    n.scale = cuda_round_up(f8 ? 3 * 8 : 0);
    return n;
}

static inline size_t cuda_linear_total(const LinearSpec *s) {
    const CudaLinearSizes n = cuda_linear_sizes(s);
    return n.w + n.bias + n.dbias + n.out_in + n.in_out + n.scale;
}

#endif
