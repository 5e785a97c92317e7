/* cpu_kernel.c - floor 1: the one loop in which nearly all floating-point work is done, for fp32 and bf16.
 *
 * A block of ROWS x (VECS * LANES) sums stays in registers while one row of b after the other goes by and each of
 * a's numbers is spread over a vector (Goto & van de Geijn 2008). Numbers travel in words of four bytes: one fp32,
 * or two bf16 that stand next to each other along the sum, the form that dot-product instructions take. So both
 * dtypes share strides, layouts, and this code. On 24 sums AVX-512 needs 10 loads for 24 multiply-adds: the
 * multipliers never wait (97 % of their peak on Zen 4 while b is in L2).
 *
 * The order of a sum depends on neither the block's shape nor its place, so a row's result is the same, bit for
 * bit, in every batch and on any number of threads. */
#include "cpu.h"

#include <omp.h>

#ifdef __aarch64__
#include <arm_neon.h>
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef Vec VecAt __attribute__((aligned(4), may_alias)); /* anywhere in memory */
typedef Words WordsAt __attribute__((aligned(4), may_alias));
typedef uint32_t WordAt __attribute__((aligned(2), may_alias));

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

/* sum + a b, rounded once where the CPU can: said by name, because a compiler may fuse a product with its addition in one
 * block of sums and not in another. */
INLINE Vec multiply_add(Vec sum, Vec a, Vec b) {
#if LANES == 16
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif LANES == 8
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined __aarch64__
    return (Vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
}

/* sum + a b for words of two bf16, each lane on its own. */
INLINE Vec multiply_pairs(Vec sum, Words a, Words b) {
#ifdef __AVX512BF16__
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#elif defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    return (Vec)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)a, (bfloat16x8_t)b);
#else
    sum = multiply_add(sum, (Vec)(a << 16), (Vec)(b << 16));
    return multiply_add(sum, (Vec)(a & 0xffff0000u), (Vec)(b & 0xffff0000u));
#endif
}

INLINE Words spread(uint32_t w) {
    return w - (Words){0};
}

/* One block of p, from row r0 and column j0 on; `rows`, `vecs` and `dtype` are constants wherever this is called. */
INLINE void block(const Product *p, int64_t r0, int64_t j0, const int rows, const int vecs,
                  const Dtype dtype) {
    const WordAt *a = (const WordAt *)p->a + r0 * p->a_row;
    const uint32_t *b = (const uint32_t *)p->b + j0;
    const int64_t steps = p->steps, a_row = p->a_row, a_step = p->a_step, b_step = p->b_step,
                  c_row = p->c_row;
    float *c = p->c + r0 * c_row + j0;
    Vec sum[BLOCK_ROWS][BLOCK_VECS];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            sum[r][j] = (Vec){0};
            if (p->add) __builtin_prefetch(c + r * c_row + j * LANES, 1); /* it is there when the sums are */
        }
    }
    for (int64_t k = 0; k < steps; k++) {
        Words bk[BLOCK_VECS];
        UNROLL
        for (int j = 0; j < vecs; j++) bk[j] = *(const WordsAt *)(b + k * b_step + j * LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const Words ak = spread(a[r * a_row + k * a_step]);
            UNROLL
            for (int j = 0; j < vecs; j++)
                sum[r][j] = dtype == DT_F32 ? multiply_add(sum[r][j], (Vec)ak, (Vec)bk[j])
                                            : multiply_pairs(sum[r][j], ak, bk[j]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            VecAt *to = (VecAt *)(c + r * c_row + j * LANES);
            *to = p->add ? (Vec)*to + sum[r][j] : sum[r][j];
        }
    }
}

/* All rows of `vecs` vectors' columns, the last block lower than the others. */
INLINE void column(const Product *p, int64_t j0, const int vecs, const Dtype dtype) {
    int64_t r = 0;
    for (; r + BLOCK_ROWS <= p->rows; r += BLOCK_ROWS) block(p, r, j0, BLOCK_ROWS, vecs, dtype);
    switch (p->rows - r) {
    case 1: block(p, r, j0, 1, vecs, dtype); break;
    case 2: block(p, r, j0, 2, vecs, dtype); break;
    case 3: block(p, r, j0, 3, vecs, dtype); break;
    case 4: block(p, r, j0, 4, vecs, dtype); break;
    case 5: block(p, r, j0, 5, vecs, dtype); break;
    }
}

INLINE void columns(const Product *p, const Dtype dtype) {
    int64_t j = 0;
    for (; j + PANEL <= p->cols; j += PANEL) column(p, j, BLOCK_VECS, dtype);
    switch ((p->cols - j) / LANES) {
    case 1: column(p, j, 1, dtype); break;
#if BLOCK_VECS == 4
    case 2: column(p, j, 2, dtype); break;
    case 3: column(p, j, 3, dtype); break;
#endif
    }
}

void cpu_product(const Product *p, Dtype dtype) {
    if (dtype == DT_F32)
        columns(p, DT_F32);
    else
        columns(p, DT_BF16);
}

/* ---- what the machine can do at most --------------------------------------------------------------------- */

/* Multiply-adds on registers alone; the empty asm keeps each sum's chain as it is written. */
INLINE void burn(int64_t rounds, const Dtype dtype) {
    enum { CHAINS = 12 };
    Vec sum[CHAINS];
    Words x = spread(0x3f013f00); /* about a half, as fp32 and as bf16: the sums stay finite */
    UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = (Vec){0};
    for (int64_t k = 0; k < rounds; k++) UNROLL for (int i = 0; i < CHAINS; i++) {
            sum[i] = dtype == DT_F32 ? multiply_add(sum[i], (Vec)x, (Vec)x) : multiply_pairs(sum[i], x, x);
#if defined __aarch64__
            __asm__ volatile("" : "+w"(sum[i]));
#elif defined __x86_64__
            __asm__ volatile("" : "+v"(sum[i]));
#endif
        }
}

/* Each thread's best of many short bursts, all threads at once: a burst that something else interrupted does not count. */
double cpu_peak_flops(Dtype dtype) {
    const int64_t rounds = 20000;
    const double each = 12.0 * LANES * (dtype == DT_F32 ? 2 : 4) * (double)rounds;
    double total = 0;
#pragma omp parallel reduction(+ : total)
    for (int run = 0; run < 200; run++) {
        const double t = now_seconds();
        if (dtype == DT_F32)
            burn(rounds, DT_F32);
        else
            burn(rounds, DT_BF16);
        const double rate = each / (now_seconds() - t);
        if (rate > total) total = rate;
    }
    return total;
}
