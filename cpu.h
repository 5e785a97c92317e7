/* cpu.h - floor 1, private to cpu*.c: what the CPU kernels share. Numbers in and out of tensors, the few
 * elementary functions in forms that compilers vectorise, dropout masks, and scratch memory. */
#ifndef GPT_CPU_H
#define GPT_CPU_H

#include "ops.h"

#include <math.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- bf16: the upper half of an fp32 --------------------------------------------------------------------- */

static inline float bf16_to_f32(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest, ties to even; a NaN stays one. */
static inline uint16_t f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)(f != f ? (u >> 16 | 0x40) : rounded);
}

static inline float tensor_get(Tensor t, int64_t i) {
    return t.dtype == DT_F32 ? ((const float *)t.p)[i] : bf16_to_f32(((const uint16_t *)t.p)[i]);
}

static inline void tensor_set(Tensor t, int64_t i, float v) {
    if (t.dtype == DT_F32)
        ((float *)t.p)[i] = v;
    else
        ((uint16_t *)t.p)[i] = f32_to_bf16(v);
}

static inline void bf16_from_row(uint16_t *dst, const float *src, int64_t n) {
    int64_t i = 0;
#ifdef __AVX512BF16__ /* the same but for numbers below 1.2e-38, which it takes for zero */
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(dst + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(src + i)));
#endif
    for (; i < n; i++) dst[i] = f32_to_bf16(src[i]);
}

/* n numbers from element `at` on, to and from fp32. */
static inline void row_load(float *dst, Tensor t, int64_t at, int64_t n) {
    const uint16_t *b = (const uint16_t *)t.p + at;
    if (t.dtype == DT_F32)
        memcpy(dst, (const float *)t.p + at, (size_t)n * sizeof *dst);
    else
        for (int64_t i = 0; i < n; i++) dst[i] = bf16_to_f32(b[i]);
}

static inline void row_store(Tensor t, int64_t at, const float *src, int64_t n) {
    if (t.dtype == DT_F32)
        memcpy((float *)t.p + at, src, (size_t)n * sizeof *src);
    else
        bf16_from_row((uint16_t *)t.p + at, src, n);
}

/* ---- words: one fp32, or two bf16 that are multiplied and added together ---------------------------------- */

/* Words of two rows of bf16 below each other. */
static inline void words_across(uint32_t *restrict dst, const uint16_t *lo, const uint16_t *hi, int64_t n) {
    for (int64_t c = 0; c < n; c++) dst[c] = lo[c] | (uint32_t)hi[c] << 16;
}

typedef uint32_t Four __attribute__((vector_size(16), aligned(2), may_alias));
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Four){__VA_ARGS__})
#endif

/* dst [cols][dst_row] = src [rows][src_row] turned over; rows is a multiple of four, and src's rows can be read up to
 * the next multiple of four. */
static inline void words_turn(uint32_t *dst, int64_t dst_row, const void *src, int64_t src_row, int64_t rows,
                              int64_t cols) {
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t c = 0; c < cols; c += 4) {
            const uint32_t *from = (const uint32_t *)src + r * src_row + c;
            uint32_t *to = dst + c * dst_row + r;
            const Four r0 = *(const Four *)from, r1 = *(const Four *)(from + src_row);
            const Four r2 = *(const Four *)(from + 2 * src_row), r3 = *(const Four *)(from + 3 * src_row);
            const Four a0 = SHUFFLE(r0, r1, 0, 4, 1, 5), a1 = SHUFFLE(r0, r1, 2, 6, 3, 7);
            const Four b0 = SHUFFLE(r2, r3, 0, 4, 1, 5), b1 = SHUFFLE(r2, r3, 2, 6, 3, 7);
            *(Four *)to = SHUFFLE(a0, b0, 0, 1, 4, 5);
            if (c + 1 < cols) *(Four *)(to + dst_row) = SHUFFLE(a0, b0, 2, 3, 6, 7);
            if (c + 2 < cols) *(Four *)(to + 2 * dst_row) = SHUFFLE(a1, b1, 0, 1, 4, 5);
            if (c + 3 < cols) *(Four *)(to + 3 * dst_row) = SHUFFLE(a1, b1, 2, 3, 6, 7);
        }
}

/* ---- elementary functions -------------------------------------------------------------------------------- */

/* e^x to about 1e-7 relative: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r, times 2^n. Below -87.3 it is 0,
 * above 88.3 as at 88.3; NaN stays NaN. No branches, so loops over it become vectors. */
static inline float exp_fast(float x) {
    const float top = x > 88.3f ? 88.3f : x;
    const float shifted =
        top * 1.44269504f + 12583039.0f; /* 1.5 * 2^23 + 127: n + 127 lands in the low bits */
    const float n = shifted - 12583039.0f;
    const float r = top - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23; /* 2^n: the constant's own bits fall off */
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.3f ? 0.0f : p * power;
}

/* GELU's tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). */
static inline float gelu_sigmoid(float x) {
    return 1.0f / (1.0f + exp_fast(-1.59576912f * x * (1.0f + 0.044715f * x * x)));
}
static inline float gelu(float x) {
    return x * gelu_sigmoid(x);
}
static inline float gelu_grad(float x) {
    float s = gelu_sigmoid(x);
    return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 3.0f * 0.044715f * x * x);
}

/* ---- dropout --------------------------------------------------------------------------------------------- */

/* f[w][j]: the factor, 0 or 1 / (1 - p), of element i0 + w + j * stride; i0 and stride are multiples of four. */
void dropout_factors(float f[4][8], const Dropout *d, uint64_t i0, uint64_t stride);
/* Multiplies x[0 .. n) by the factors of elements i0, i0 + 1, ... */
void dropout_apply(float *x, const Dropout *d, uint64_t i0, int64_t n);

/* ---- threads and memory ---------------------------------------------------------------------------------- */

/* This thread's scratch, grown when it must (so in the first step only), kept until the program ends. Each call
 * gives the same memory: one call an op. */
void *cpu_scratch(size_t bytes);
/* Likewise, for all threads of an op together; asked for before they start. */
void *cpu_shared(size_t bytes);
/* Column sums of n rows: out [C] (+)= sum over rows, in an order that does not depend on the threads. */
void sum_rows(float *out, Tensor x, int64_t n, int64_t C, bool accumulate);

/* ---- products: cpu_kernel.c ------------------------------------------------------------------------------ */

#if defined __AVX512F__
#define LANES      16 /* fp32 numbers in a vector register */
#define BLOCK_VECS 4
#elif defined __AVX2__
#define LANES      8
#define BLOCK_VECS 2
#elif defined __ARM_NEON
#define LANES      4
#define BLOCK_VECS 4
#else
#define LANES      4
#define BLOCK_VECS 2
#endif
enum { BLOCK_ROWS = 6, PANEL = LANES * BLOCK_VECS };

/* c [rows, cols] = (or, if add, +=) a b, summed over `steps` words: a word is one fp32, or two bf16 of which a product
 * takes both. a's word of (row, step) stands at a + row * a_row + step * a_step, b's row of a step at b + step * b_step;
 * strides in words (c's in floats). cols is a multiple of LANES. */
typedef struct Product {
    float *c;
    const void *a, *b;
    int64_t c_row, a_row, a_step, b_step, steps, rows, cols;
    bool add;
} Product;
void cpu_product(const Product *p, Dtype dtype);
/* Whether products of bf16 go through AMX: the build has it, and Linux lends it. */
bool cpu_has_tiles(void);
double cpu_peak_flops(Dtype dtype);

/* ---- the parts of the table that stand in files of their own --------------------------------------------- */

size_t cpu_linear_bytes(const LinearSpec *s);
Linear *cpu_linear_create(const LinearSpec *s, Err *e);
void cpu_linear_free(Linear *l);
void cpu_linear_refresh(Linear *l, bool mirrored);
void cpu_linear_forward(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                        int64_t n);
void cpu_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, bool again, Linear *l,
                         float *dbias, bool accumulate, int64_t n);

void cpu_matmul(Matrices c, Matrices a, Matrices b, const uint16_t *add, const Matmul *m);

void cpu_attention_forward(Tensor out, float *lse, Tensor qkv, const Attention *a);
void cpu_attention_backward(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                            const Attention *a);
void cpu_attention_cached(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity, const int32_t *slot,
                          const int32_t *pos, int64_t n, const Attention *a);

#endif
