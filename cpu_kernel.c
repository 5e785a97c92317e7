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
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

/* ---- bf16 on AMX: registers that hold 16 x 16 words --------------------------------------------------------- */

#ifdef __AMX_BF16__
enum { SIDE = 16 };

/* Linux lends tiles to processes that ask for them. */
bool cpu_has_tiles(void) {
    enum { UNKNOWN, NO, YES };
    static int known = UNKNOWN;
    int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (k == UNKNOWN) {
        k = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) ? NO : YES;
        __atomic_store_n(&known, k, __ATOMIC_RELAXED);
    }
    return k == YES;
}

/* Tiles 0 to 5, sums and rows of a, get `rows` rows, tiles 6 and 7, of b, all 16. A thread's tiles keep their shape. */
static void shape_tiles(int rows) {
    static _Thread_local int now;
    if (now == rows) return;
    struct __attribute__((packed, aligned(64))) {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int t = 0; t < 8; t++) config.bytes[t] = SIDE * 4, config.rows[t] = (uint8_t)(t < 6 ? rows : SIDE);
    __asm__ volatile("" ::: "memory"); /* the tiles' intrinsics do not say what they read */
    _tile_loadconfig(&config);
    now = rows;
}

/* Where a tile finds its rows, 16 words each. */
typedef struct Rows {
    const void *at;
    int64_t stride; /* bytes */
} Rows;

/* Rows r0 .. of a, words k .. k + words - 1, in `buffer` if they do not lie as tiles want them: words of a row side by
 * side, and all 16 of them. */
INLINE Rows rows_of_a(uint32_t (*buffer)[SIDE], const Product *p, int64_t r0, int64_t rows, int64_t k,
                      int64_t words) {
    const WordAt *a = (const WordAt *)p->a + r0 * p->a_row + k * p->a_step;
    if (p->a_step == 1 && words == SIDE) return (Rows){a, p->a_row * 4};
    if (words < SIDE) memset(buffer, 0, (size_t)rows * sizeof *buffer);
    if (p->a_step == 1)
        for (int64_t r = 0; r < rows; r++)
            memcpy(buffer[r], a + r * p->a_row, (size_t)words * sizeof **buffer);
    else if (p->a_row == 1 && words == SIDE)
        words_turn(buffer[0], SIDE, a, p->a_step, SIDE, rows);
    else
        for (int64_t w = 0; w < words; w++)
            for (int64_t r = 0; r < rows; r++) buffer[r][w] = a[r * p->a_row + w * p->a_step];
    return (Rows){buffer, sizeof *buffer};
}

/* A block of up to 2 x 2 tiles; tall and wide are constants wherever this is called. A tile's instruction adds up the
 * first and the second numbers of 16 words each on its own, both to the sum then: the same for each row. */
INLINE void tile_block(const Product *p, int64_t r0, int64_t rows, int64_t j0, const int tall,
                       const int wide) {
    uint32_t of_a[2 * SIDE][SIDE] __attribute__((aligned(64))),
        of_b[SIDE][2 * SIDE] __attribute__((aligned(64)));
    const int64_t c_bytes = p->c_row * 4;
    float *c = p->c + r0 * p->c_row + j0, *below = c + SIDE * p->c_row;
    if (p->add) {
        _tile_loadd(0, c, c_bytes);
        if (wide == 2) _tile_loadd(1, c + SIDE, c_bytes);
        if (tall == 2) _tile_loadd(2, below, c_bytes);
        if (tall == 2 && wide == 2) _tile_loadd(3, below + SIDE, c_bytes);
    } else {
        _tile_zero(0);
        if (wide == 2) _tile_zero(1);
        if (tall == 2) _tile_zero(2);
        if (tall == 2 && wide == 2) _tile_zero(3);
    }
    for (int64_t k = 0; k < p->steps; k += SIDE) {
        const int64_t words = least(p->steps - k, SIDE);
        const uint32_t *b = (const uint32_t *)p->b + k * p->b_step + j0;
        const Rows a = rows_of_a(of_a, p, r0, rows, k, words);
        int64_t b_bytes = p->b_step * 4;
        if (words < SIDE) {
            memset(of_b, 0, sizeof of_b);
            for (int64_t w = 0; w < words; w++)
                memcpy(of_b[w], b + w * p->b_step, (size_t)wide * SIDE * sizeof *b);
            b = of_b[0], b_bytes = sizeof *of_b;
        }
        __asm__ volatile("" ::: "memory");
        _tile_loadd(6, b, b_bytes);
        if (wide == 2) _tile_loadd(7, b + SIDE, b_bytes);
        _tile_loadd(4, a.at, a.stride);
        _tile_dpbf16ps(0, 4, 6);
        if (wide == 2) _tile_dpbf16ps(1, 4, 7);
        if (tall == 1) continue;
        _tile_loadd(5, (const char *)a.at + SIDE * a.stride, a.stride);
        _tile_dpbf16ps(2, 5, 6);
        if (wide == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if (wide == 2) _tile_stored(1, c + SIDE, c_bytes);
    if (tall == 2) _tile_stored(2, below, c_bytes);
    if (tall == 2 && wide == 2) _tile_stored(3, below + SIDE, c_bytes);
    __asm__ volatile("" ::: "memory");
}

INLINE void tile_rows(const Product *p, int64_t r0, int64_t rows, const int tall) {
    int64_t j = 0;
    shape_tiles((int)least(rows, SIDE));
    for (; j + 2 * SIDE <= p->cols; j += 2 * SIDE) tile_block(p, r0, rows, j, tall, 2);
    if (j < p->cols) tile_block(p, r0, rows, j, tall, 1);
}

static void tiles(const Product *p) {
    int64_t r = 0;
    for (; r + 2 * SIDE <= p->rows; r += 2 * SIDE) tile_rows(p, r, 2 * SIDE, 2);
    for (; r < p->rows; r += SIDE) tile_rows(p, r, least(p->rows - r, SIDE), 1);
}

/* Multiply-adds on tiles alone, as many as `rounds` of a tile_block without its loads. */
static void burn_tiles(int64_t rounds) {
    uint32_t halves[SIDE][SIDE]; /* real numbers, as multipliers draw less power on zeros */
    for (int r = 0; r < SIDE; r++)
        for (int w = 0; w < SIDE; w++) halves[r][w] = 0x3f003f00;
    shape_tiles(SIDE);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, halves, sizeof *halves);
    _tile_loadd(5, halves, sizeof *halves);
    _tile_loadd(6, halves, sizeof *halves);
    _tile_loadd(7, halves, sizeof *halves);
    for (int64_t k = 0; k < rounds; k++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}
#else
bool cpu_has_tiles(void) {
    return false;
}
#endif

void cpu_product(const Product *p, Dtype dtype) {
#ifdef __AMX_BF16__
    if (dtype == DT_BF16 && cpu_has_tiles()) return tiles(p);
#endif
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
    const bool on_tiles = dtype == DT_BF16 && cpu_has_tiles();
    const double each =
        (on_tiles ? 4.0 * 16 * 16 * 64 : 12.0 * LANES * (dtype == DT_F32 ? 2 : 4)) * (double)rounds;
    double total = 0;
#pragma omp parallel reduction(+ : total)
    for (int run = 0; run < 200; run++) {
        const double t = now_seconds();
        if (dtype == DT_F32)
            burn(rounds, DT_F32);
        else if (!on_tiles)
            burn(rounds, DT_BF16);
#ifdef __AMX_BF16__
        else
            burn_tiles(rounds);
#endif
        const double rate = each / (now_seconds() - t);
        if (rate > total) total = rate;
    }
    return total;
}
