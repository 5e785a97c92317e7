/* attention.cuh - a part of gpt.cu, which includes it once, after norm: attention for training and for serving.
 * It uses gpt.cu's packs, sums, random numbers and workspace. */

/* FlashAttention-2 (Dao 2023) on tensor cores. A block has a tile of rows (ROWS of HD numbers; heads of other sizes are
 * padded with zeros to the next HD), each warp its own 16 or 32 of them, and goes over tiles of COLS columns, of which
 * the next one is on its way to shared memory (cp.async) while one is worked on:
 *
 *   forward       rows Q, columns K, V:   S = Q K^T,  P = exp(S - max),  O += P V                  2 products a tile
 *   backward dQ   rows Q, dO, columns K, V:   S, dP = dO V^T,  dS = P (dP - D),  dQ += dS K         3
 *   backward dKV  rows K, V, columns Q, dO:   S^T, dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q      4
 *
 * where D, of each query, is the sum of dO O. What a product leaves in registers, P or dS, is already laid out as the
 * left side of the next one: it never leaves them, and warps meet only where tiles come and go. With B T queries, C = NH HS
 * and half of all tiles masked, a product is B T^2 C FLOPs. Tiles beyond the diagonal or outside the window are neither
 * read nor computed. Exponents are to the base 2, with log2(e) in the scale. */

#define LOG2_E 1.44269504f
#define LN_2   0.693147181f

/* The dropout's numbering: how many rows of probabilities stand before those of head h of sequence b of this tensor, and
 * how many fours of numbers a row has. */
struct Dropped {
    Mask mask;
    uint64_t first, apart; /* rows before the first head's; from one sequence to the next */
    int quads;
};

static Dropped dropped_of(const Attention *a) {
    const uint64_t T = (uint64_t)a->T, NH = (uint64_t)a->NH_total;
    return Dropped{mask_of(&a->drop), (a->drop.row0 / T * NH + (uint64_t)a->head0) * T, NH * T,
                   (a->T + 3) / 4};
}
static __device__ inline uint64_t dropped_rows(const Dropped &d, int b, int h, int T) {
    return d.first + b * d.apart + (uint64_t)h * T;
}

/* Bit i: is number 4 quad + i of this row of probabilities kept? */
static __device__ inline unsigned kept_of_quad(const Dropped &d, uint64_t row, int quad) {
    uint32_t w[4];
    unsigned bits = 0;
    philox(w, d.mask.seed, d.mask.hi, row * d.quads + quad);
    for (int i = 0; i < 4; i++) bits |= (w[i] >= d.mask.least) << i;
    return bits;
}

/* Bit i: is c[i] of a 16 x 8 result kept, whose rows are queries, from row q on, and columns keys, from key s on, a
 * multiple of 8? A quad lies in two lanes, in rows g and g + 8: one lane draws one of them, and they tell each other. */
static __device__ inline unsigned kept_of_keys(const Dropped &d, uint64_t q, int s) {
    const int lane = threadIdx.x % WARP, t = lane % 4;
    const unsigned mine = kept_of_quad(d, q + lane / 4 + t % 2 * 8, s / 4 + t / 2);
    const unsigned other = __shfl_xor_sync(ALL_LANES, mine, 1), above = t % 2 ? other : mine,
                   below = t % 2 ? mine : other;
    return (above >> t % 2 * 2 & 3) | (below >> t % 2 * 2 & 3) << 2;
}

/* The same with keys as rows and queries as columns. Four lanes share the quads of all four c[i]: each draws one. */
static __device__ inline unsigned kept_of_queries(const Dropped &d, uint64_t q, int s) {
    const int lane = threadIdx.x % WARP, t = lane % 4, g = lane / 4, i = g % 4;
    unsigned all = kept_of_quad(d, q + 2 * t + i % 2, s / 4 + g / 4 + i / 2 * 2) << 4 * i, bits = 0;
    all |= __shfl_xor_sync(ALL_LANES, all, 4);
    all |= __shfl_xor_sync(ALL_LANES, all, 8);
    for (int e = 0; e < 4; e++) bits |= (all >> (4 * e + i) & 1) << e;
    return bits;
}

/* Of all of a warp's scores: bit 4 n + i of kept[m] is that of c[m][n][i]. Drawn before there are any, when registers are
 * free, and in a loop, for its code is long. */
template <int M, int COLS, bool KEYS>
static __device__ inline void kept_of_tile(unsigned (&kept)[M], const Dropped &d, uint64_t before, int row,
                                           int col) {
#pragma unroll
    for (int m = 0; m < M; m++) {
        kept[m] = 0;
#pragma unroll 2
        for (int n = 0; n < COLS / 8; n++) {
            const int r = row + 16 * m, c = col + 8 * n;
            kept[m] |= (KEYS ? kept_of_queries(d, before + c, r) : kept_of_keys(d, before + r, c)) << 4 * n;
        }
    }
}

/* ---- attention: tiles in shared memory */

/* Where chunk `chunk`, of 16 bytes, of row `row` lies in a tile [rows][HD]: chunks are permuted so that the same chunk of
 * 8 rows in a row, which is what ldmatrix takes at once, lies in 8 different groups of banks. */
template <int HD> static __device__ inline int chunk_at(int row, int chunk) {
    const int CHUNKS = HD / 8, twist = CHUNKS % 8 ? row >> 1 & 3 : row & 7;
    return (row * CHUNKS + (chunk & ~7) + ((chunk & 7) ^ twist)) * 16;
}

/* The rows of one head in global memory: row r at p + r * step; those from n on are taken for zeros. */
struct Rows {
    bf16 *p;
    int step, n;
};

/* Starts to bring rows from, from + 1, ... to a tile. */
template <int HD, int N, int THREADS>
static __device__ inline void bring_rows(unsigned char *tile, const Rows &r, int from, int HS) {
    enum { CHUNKS = HD / 8, AT_ONCE = THREADS / CHUNKS };
    const int first = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
    const SharedAt to = shared_at(tile);
    const bf16 *p = r.p + (int64_t)(from + first) * r.step + 8 * chunk;
#pragma unroll
    for (int row = first; row < first + N; row += AT_ONCE, p += AT_ONCE * r.step)
        if ((N % AT_ONCE == 0 && THREADS % CHUNKS == 0) || (row < N && first < AT_ONCE)) {
            const bool there = from + row < r.n && 8 * chunk < HS;
            cp_async<16>(to + chunk_at<HD>(row, chunk), there ? p : r.p, there);
        }
}

/* Writes numbers first .. first + WIDE - 1 of this warp's rows, which are c times `by[row half]`, by way of rows row ..
 * of a tile that no other thread uses any more; rows from .. of `r`. */
template <int HD, int M, int WIDE>
static __device__ inline void put_rows(const Rows &r, int from, int HS, unsigned char *tile, int row,
                                       int first, const float (&c)[M][WIDE / 8][4], const float (&by)[M][2]) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < WIDE / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *(uint32_t *)(tile + chunk_at<HD>(row + 16 * m + 8 * half + g, first / 8 + n) + 4 * t) =
                    pack_bf16(c[m][n][2 * half] * by[m][half], c[m][n][2 * half + 1] * by[m][half]);
    __syncwarp();
    for (int i = lane; i < 16 * M * WIDE / 8; i += WARP) {
        const int at = i / (WIDE / 8), chunk = first / 8 + i % (WIDE / 8);
        if (from + at < r.n && 8 * chunk < HS)
            *(Pack<bf16> *)(r.p + (int64_t)(from + at) * r.step + 8 * chunk) =
                *(const Pack<bf16> *)(tile + chunk_at<HD>(row + at, chunk));
    }
}

/* ---- attention: products, of a warp's 16 M rows */

/* The warp's rows of a tile as left sides of products; KEEPS: in registers. */
template <int HD, int M, bool KEEPS> struct Left {
    SharedAt tile;
    int row;
    uint32_t kept[KEEPS ? HD / 16 : 1][M][4];

    __device__ inline void get(uint32_t (&a)[M][4], int k) const {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int m = 0; m < M; m++)
            ldmatrix_x4(a[m], tile + chunk_at<HD>(row + 16 * m + lane % 16, 2 * k + lane / 16));
    }
    __device__ inline void take(const unsigned char *from, int first) {
        tile = shared_at(from), row = first;
#pragma unroll
        for (int k = 0; k < (KEEPS ? HD / 16 : 0); k++) get(kept[k], k);
    }
};

/* c [16 M, COLS] = left [16 M, HD] times the tile [COLS, HD] turned over. */
template <int HD, int M, int COLS, bool KEEPS>
static __device__ inline void times_rows(float (&c)[M][COLS / 8][4], const Left<HD, M, KEEPS> &left,
                                         SharedAt tile) {
    const int lane = threadIdx.x % WARP, row = lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < M * COLS / 2; i++) c[i / (COLS / 2)][i / 4 % (COLS / 8)][i % 4] = 0;
#pragma unroll
    for (int k = 0; k < HD / 16; k++) {
        uint32_t read[M][4];
        if (!KEEPS) left.get(read, k);
#pragma unroll
        for (int n = 0; n < COLS / 8; n += 2) {
            uint32_t b[4];
            ldmatrix_x4(b, tile + chunk_at<HD>(8 * n + row, 2 * k + half));
#pragma unroll
            for (int m = 0; m < M; m++) {
                const uint32_t *a = KEEPS ? left.kept[KEEPS ? k : 0][m] : read[m];
                mma_m16n8k16(c[m][n], a, b[0], b[1]);
                mma_m16n8k16(c[m][n + 1], a, b[2], b[3]);
            }
        }
    }
}

/* c [16 M, WIDE] += p [16 M, COLS], rounded to bf16, times columns first .. of the tile [COLS, HD]. */
template <int HD, int M, int COLS, int WIDE>
static __device__ inline void times_columns(float (&c)[M][WIDE / 8][4], const float (&p)[M][COLS / 8][4],
                                            SharedAt tile, int first) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int k = 0; k < COLS / 8; k += 2) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = pack_bf16(p[m][k + i / 2][i % 2 * 2], p[m][k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < WIDE / 8; n += 2) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, tile + chunk_at<HD>(8 * k + lane % 16, first / 8 + n + lane / 16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16(c[m][n], a[m], b[0], b[1]);
                mma_m16n8k16(c[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* ---- attention: which tiles, in which order */

/* Do queries at t0 .. t1 see some of the keys s0 .. s1? All of them? */
static __device__ inline bool sees_some(int t0, int t1, int s0, int s1, int window) {
    return s0 <= t1 && t0 - s1 < window;
}
static __device__ inline bool sees_all(int t0, int t1, int s0, int s1, int window) {
    return s1 <= t0 && t1 - s0 < window;
}
static __device__ inline bool sees(int t, int s, int window) {
    return s <= t && t - s < window;
}
static __device__ inline int first_seen(int t, int window) {
    return t >= window ? t - window + 1 : 0;
}

/* Scores that seen(row, column of the tile) does not allow become -inf, and so probabilities of 0. */
template <int M, int COLS, typename Seen>
static __device__ inline void mask_scores(float (&s)[M][COLS / 8][4], Seen seen) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < COLS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (!seen(16 * m + i / 2 * 8 + g, 8 * n + 2 * t + i % 2)) s[m][n][i] = -INFINITY;
}

/* Blocks, in the order in which they start: groups of heads whose operands fit a GPU's L2 together, and of each group
 * the rows with most to do first. */
struct Deal {
    int heads, tiles, group;
};

static Deal deal_of(int heads, int tiles, int64_t bytes_of_head) {
    const int64_t fit = ((int64_t)16 << 20) / bytes_of_head;
    return {heads, tiles, (int)(fit < 1 ? 1 : fit > heads ? heads : fit)};
}
static __device__ inline void dealt(const Deal &d, int *head, int *nth) {
    const int size = d.group * d.tiles, from = blockIdx.x / size * d.group, i = blockIdx.x % size;
    const int heads = min(d.group, d.heads - from);
    *head = from + i % heads, *nth = i / heads;
}

/* ---- attention: forward */

/* The online softmax (Milakov & Gimelshein 2018). The maximum that scores are held against need not be the largest, only
 * near it, so it is raised when a row has outgrown it by a factor 2^NEAR; and it is a whole number, so that what was
 * summed is scaled down exactly, and P rounds to the same bf16 whichever keys came before. */
#define NEAR     8.0f
#define FROM_MAX -1e30f

template <int HD, bool DROPS> struct ForwardShape {
    enum {
        M = HD <= 128 ? 2 : 1,
        WARPS = 4,
        THREADS = WARPS * WARP,
        ROWS = 16 * M * WARPS,
        COLS = HD <= 64 || (HD <= 128 && !DROPS) ? 64 : 32,
        KEEPS = HD <= 64,
        TILE = COLS * HD * 2,
        SHARED = ROWS * HD * 2 + 4 * TILE
    };
};

template <typename T> struct ForwardArgs {
    T *qkv, *out;
    float *lse;
    T *k,
        *v; /* serving: the cache [slots, NH, capacity, HS]; then row i of qkv is position pos[i] of slot[i] */
    const int32_t *slot, *pos; /* [n]; NULL in training */
    int64_t capacity;
    int n, NH, HS, window; /* n: T, or the list's length */
    float scale;
    Dropped drop;
    Deal deal;
};

/* Are the list's rows from .. of a tile all of one slot, and enough of them for a tile? Rows of one slot are neighbours. */
static __device__ inline bool one_slot(const int32_t *slot, int from, int rows, int n) {
    const int last = min(from + rows, n) - 1;
    return last - from >= 15 && slot[from] == slot[last];
}

template <int M, int COLS, int HD>
struct Online {                 /* of a warp's rows: c[m][.][2 half] and the next are of row (m, half) */
    float max[M][2], sum[M][2]; /* a lane's part of the sum */
    float acc[M][HD / 8][4];

    __device__ inline void start() {
#pragma unroll
        for (int i = 0; i < 2 * M; i++) max[i / 2][i % 2] = FROM_MAX, sum[i / 2][i % 2] = 0;
#pragma unroll
        for (int i = 0; i < M * HD / 2; i++) acc[i / (HD / 2)][i / 4 % (HD / 8)][i % 4] = 0;
    }

    __device__ inline void raise(const float (&top)[M][2]) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float old = max[m][half], now = top[m][half] > old + NEAR ? ceilf(top[m][half]) : old;
                const float shrink = exp2_approx(old - now);
                max[m][half] = now, sum[m][half] *= shrink;
#pragma unroll
                for (int n = 0; n < HD / 8; n++)
                    acc[m][n][2 * half] *= shrink, acc[m][n][2 * half + 1] *= shrink;
            }
    }

    /* s: from scores to probabilities, but for a factor of the row. */
    __device__ inline void softmax(float (&s)[M][COLS / 8][4], float scale) {
        float top[M][2];
        bool outgrown = false;
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float x = -INFINITY;
#pragma unroll
                for (int n = 0; n < COLS / 8; n++)
                    x = fmaxf(x, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
                x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
                x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
                top[m][half] = x * scale, outgrown |= x * scale > max[m][half] + NEAR;
            }
        if (__any_sync(ALL_LANES, outgrown)) raise(top);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < COLS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    s[m][n][i] = exp2_approx(fmaf(s[m][n][i], scale, -max[m][i / 2]));
                    sum[m][i / 2] += s[m][n][i];
                }
    }
};

/* Training: block (head, tile of queries) of qkv [B, T, 3, NH, HS]. Reads 3 B T C numbers, K and V again for each tile of
 * queries, mostly from L2, writes B T (C + 2 NH); 2 B T^2 C FLOPs. Serving: tiles of a list's rows that are all of one slot
 * (the others are attention_decode's): n queries, K and V of the cache. */
template <int HD, bool DROPS>
static __global__ void __launch_bounds__(ForwardShape<HD, DROPS>::THREADS)
    attention_tiles(ForwardArgs<bf16> a) {
    typedef ForwardShape<HD, DROPS> S;
    enum { M = S::M, COLS = S::COLS };
    DYNAMIC_SHARED(shared);
    unsigned char *const stages = shared + S::ROWS * HD * 2;
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 * M, g = lane / 4, t = lane % 4;
    const int C = a.NH * a.HS;
    int head, nth;
    dealt(a.deal, &head, &nth);
    const int q0 = (a.deal.tiles - 1 - nth) * S::ROWS, b = head / a.NH, h = head % a.NH;
    const int q1 = min(q0 + S::ROWS, a.n) - 1; /* the last */
    bf16 *const qkv = a.qkv + (int64_t)b * a.n * 3 * C + h * a.HS;
    const Rows q = {qkv, 3 * C, a.n};
    Rows k = {qkv + C, 3 * C, a.n}, v = {qkv + 2 * C, 3 * C, a.n};
    auto position = [&](int r) { return a.pos ? a.pos[min(r, q1)] : r; };
    const int first = position(q0 + row), last = position(q0 + row + 16 * M - 1), end = position(q1) + 1;
    if (a.pos) {
        if (!one_slot(a.slot, q0, S::ROWS, a.n)) return;
        const int64_t cache = ((int64_t)a.slot[q0] * a.NH + h) * a.capacity * a.HS;
        k = {a.k + cache, a.HS, end}, v = {a.v + cache, a.HS, end};
    }
    const int from = first_seen(position(q0), a.window) / COLS * COLS;

    auto bring = [&](int s0) {
        unsigned char *stage = stages + s0 / COLS % 2 * 2 * S::TILE;
        bring_rows<HD, COLS, S::THREADS>(stage, k, s0, a.HS);
        bring_rows<HD, COLS, S::THREADS>(stage + S::TILE, v, s0, a.HS);
        cp_async_commit();
    };
    bring_rows<HD, S::ROWS, S::THREADS>(shared, q, q0, a.HS);
    cp_async_commit();
    bring(from);
    cp_async_wait<1>();
    __syncthreads();
    Left<HD, M, S::KEEPS> left;
    left.take(shared, row);
    Online<M, COLS, HD> o;
    o.start();
    const bool drops = DROPS && a.drop.mask.least;
    const uint64_t before = dropped_rows(a.drop, b, h, a.n);
    for (int s0 = from; s0 < end; s0 += COLS) {
        const SharedAt tile = shared_at(stages + s0 / COLS % 2 * 2 * S::TILE);
        cp_async_wait<0>();
        __syncthreads(); /* this tile is there for all, and all are done with the one before it */
        if (s0 + COLS < end) bring(s0 + COLS);
        if (!sees_some(first, last, s0, s0 + COLS - 1, a.window)) continue;
        float s[M][COLS / 8][4];
        unsigned kept[M];
        if (drops) kept_of_tile<M, COLS, false>(kept, a.drop, before, first, s0);
        times_rows<HD, M, COLS>(s, left, tile);
        if (!sees_all(first, last, s0, s0 + COLS - 1, a.window))
            mask_scores<M, COLS>(
                s, [&](int r, int c) { return sees(position(q0 + row + r), s0 + c, a.window); });
        o.softmax(s, a.scale);
        if (drops)
#pragma unroll
            for (int i = 0; i < M * COLS / 2; i++) {
                float &p = s[i / (COLS / 2)][i / 4 % (COLS / 8)][i % 4];
                p = kept[i / (COLS / 2)] >> i % (COLS / 2) & 1 ? p : 0;
            }
        times_columns<HD, M, COLS, HD>(o.acc, s, tile + S::TILE, 0);
    }
    float by[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        float sum = o.sum[i / 2][i % 2];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        by[i / 2][i % 2] = a.drop.mask.keep / sum;
        const int r = q0 + row + 16 * (i / 2) + 8 * (i % 2) + g;
        if (a.lse && t == 0 && r < a.n)
            a.lse[(int64_t)head * a.n + r] = o.max[i / 2][i % 2] * LN_2 + logf(sum);
    }
    __syncwarp(); /* all lanes have read their rows of Q */
    const Rows out = {a.out + (int64_t)b * a.n * C + h * a.HS, C, a.n};
    put_rows<HD, M, HD>(out, q0 + row, a.HS, shared, row, 0, o.acc, by);
}

/* ---- attention: backward
 *
 * Two passes, of 3 and 4 products, instead of one of 5 that would have to sum dQ over blocks. That sum must have an order
 * to be the same in each run. Blocks that wait for each other's turn start late by one step of the loop for each tile of
 * keys before them, and whether they ever run is up to the scheduler; partial sums in memory cost as many bytes as the
 * saved products are worth at T = 1024; atomic additions have no order. Two passes have none of that: P and dS stay in
 * registers, blocks are independent, and the scores' exponentials, made twice, run beside the products of other warps. */

template <int HD, bool KEYS> struct BackwardShape {
    enum {
        M = HD <= 64 ? 2 : 1,
        HALVES = KEYS && HD > 128 ? 2 : 1, /* so many warps share rows, and part the sums' columns */
        WARPS = 4,
        THREADS = WARPS * WARP,
        ROWS = 16 * M * WARPS / HALVES,
        COLS = HD <= 128 || KEYS ? 32 : 16,
        KEEPS = !KEYS && HD <= 128,
        WIDE = HD / HALVES,
        TILE = COLS * HD * 2,
        STAGE = 2 * TILE + COLS * 8,
        SHARED = 2 * ROWS * HD * 2 + 2 * STAGE
    };
};

template <typename T> struct BackwardArgs {
    T *qkv, *dqkv, *out, *dout;
    const float *lse; /* [B, NH, T] */
    float2 *stats;    /* [heads of this launch, T], by the first pass: lse (in tiles: to the base 2), and D */
    int head0, n, NH, HS, window;
    float scale;
    Dropped drop;
    Deal deal;
};

/* s and dp [16 M, COLS]: from scores and dP to P (with dropout) and dS (to be scaled). A query's two statistics are those
 * of its row, or of its column. */
template <int M, int COLS, bool KEYS>
static __device__ inline void score_gradient(float (&s)[M][COLS / 8][4], float (&dp)[M][COLS / 8][4],
                                             const float2 (&of_row)[M][2], const float2 *of_column,
                                             float scale, bool drops, const unsigned (&kept)[M], float keep) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < COLS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 of = KEYS ? of_column[8 * n + threadIdx.x % 4 * 2 + i % 2] : of_row[m][i / 2];
                const float p = exp2_approx(fmaf(s[m][n][i], scale, -of.x));
                const float by = !drops ? 1 : kept[m] >> (4 * n + i) & 1 ? keep : 0;
                dp[m][n][i] = p * fmaf(dp[m][n][i], by, -of.y);
                s[m][n][i] = p * by;
            }
}

/* The statistics of this lane's rows, from .. : lse to the base 2, and D from dO, as it stands in `o`, and `out`. */
template <int HD, int M, bool KEEPS>
static __device__ inline void query_stats(float2 (&of)[M][2], const Left<HD, M, KEEPS> &o, const Rows &out,
                                          int from, int HS, const float *lse) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2 * M; i++) of[i / 2][i % 2] = {0, 0};
#pragma unroll
    for (int k = 0; k < HD / 16; k++) {
        uint32_t read[M][4];
        if (!KEEPS) o.get(read, k);
#pragma unroll
        for (int i = 0; i < 4 * M; i++) {
            const int r = from + i / 4 * 16 + i % 2 * 8 + g, c = 16 * k + i / 2 % 2 * 8 + 2 * t;
            const uint32_t two = KEEPS ? o.kept[KEEPS ? k : 0][i / 4][i % 4] : read[i / 4][i % 4];
            if (r >= out.n || c >= HS) continue;
            const uint32_t o2 = *(const uint32_t *)(out.p + (int64_t)r * out.step + c);
            of[i / 4][i % 2].y += __uint_as_float(two << 16) * __uint_as_float(o2 << 16) +
                                  __uint_as_float(two & 0xffff0000u) * __uint_as_float(o2 & 0xffff0000u);
        }
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        float2 &x = of[i / 2][i % 2];
        const int r = from + i / 2 * 16 + i % 2 * 8 + g;
        x.y += __shfl_xor_sync(ALL_LANES, x.y, 1);
        x.y += __shfl_xor_sync(ALL_LANES, x.y, 2);
        x.x = r < out.n ? lse[r] * LOG2_E : 0;
    }
}

/* KEYS false: block (head, tile of queries) makes dQ; 3 B T^2 C FLOPs; reads Q, dO, O, and K, V again for each tile of
 * queries; writes dQ: 4 B T C numbers. KEYS true: block (head, tile of keys) makes dK, dV; 4 B T^2 C FLOPs; reads K, V, and
 * Q, dO again for each tile of keys, writes dK, dV: 6 B T C numbers. Beyond the sequence's end all operands are zeros, and so
 * is what they add. */
template <int HD, bool KEYS, bool DROPS>
static __global__ void __launch_bounds__(BackwardShape<HD, KEYS>::THREADS)
    attention_gradient(BackwardArgs<bf16> a) {
    typedef BackwardShape<HD, KEYS> S;
    enum { M = S::M, COLS = S::COLS, ROWS = S::ROWS };
    DYNAMIC_SHARED(shared);
    unsigned char *const shared2 = shared + ROWS * HD * 2, *const stages = shared2 + ROWS * HD * 2;
    const int warp = threadIdx.x / WARP, row = warp / S::HALVES * 16 * M, part = warp % S::HALVES * S::WIDE;
    const int C = a.NH * a.HS;
    int nth_head, nth;
    dealt(a.deal, &nth_head, &nth);
    const int r0 = (KEYS ? nth : a.deal.tiles - 1 - nth) * ROWS, head = a.head0 + nth_head;
    const int b = head / a.NH, h = head % a.NH;
    const int64_t in = (int64_t)b * a.n * 3 * C + h * a.HS, of_out = (int64_t)b * a.n * C + h * a.HS;
    const Rows q = {a.qkv + in, 3 * C, a.n}, k = {a.qkv + in + C, 3 * C, a.n},
               v = {a.qkv + in + 2 * C, 3 * C, a.n};
    const Rows o = {a.dout + of_out, C, a.n}, out = {a.out + of_out, C, a.n};
    float2 *const stats = a.stats + (int64_t)nth_head * a.n;
    const int from = (KEYS ? r0 : first_seen(r0, a.window)) / COLS * COLS;
    const int end = min(a.n, !KEYS ? r0 + ROWS : a.window < a.n ? r0 + ROWS - 1 + a.window : a.n);
    const int first = r0 + row, last = first + 16 * M - 1; /* this warp's rows */

    auto bring = [&](int c0) {
        unsigned char *stage = stages + c0 / COLS % 2 * S::STAGE;
        bring_rows<HD, COLS, S::THREADS>(stage, KEYS ? q : k, c0, a.HS);
        bring_rows<HD, COLS, S::THREADS>(stage + S::TILE, KEYS ? o : v, c0, a.HS);
        if (KEYS && threadIdx.x < COLS) {
            const bool there = c0 + (int)threadIdx.x < a.n;
            cp_async<8>(shared_at(stage + 2 * S::TILE + 8 * threadIdx.x),
                        stats + (there ? c0 + threadIdx.x : 0), there);
        }
        cp_async_commit();
    };
    bring_rows<HD, ROWS, S::THREADS>(shared, KEYS ? k : q, r0, a.HS);
    bring_rows<HD, ROWS, S::THREADS>(shared2, KEYS ? v : o, r0, a.HS);
    cp_async_commit();
    bring(from);
    cp_async_wait<1>();
    __syncthreads();
    Left<HD, M, S::KEEPS> left, left2;
    left.take(shared, row), left2.take(shared2, row);
    float2 of_row[M][2];
    if (!KEYS) query_stats(of_row, left2, out, first, a.HS, a.lse + (int64_t)head * a.n);
    float sum[M][S::WIDE / 8][4], sum2[KEYS ? M : 1][KEYS ? S::WIDE / 8 : 1][4]; /* dQ; or dK, dV */
#pragma unroll
    for (int i = 0; i < M * S::WIDE / 2; i++) {
        sum[i / (S::WIDE / 2)][i / 4 % (S::WIDE / 8)][i % 4] = 0;
        if (KEYS) sum2[KEYS ? i / (S::WIDE / 2) : 0][KEYS ? i / 4 % (S::WIDE / 8) : 0][i % 4] = 0;
    }
    const bool drops = DROPS && a.drop.mask.least;
    const uint64_t before = dropped_rows(a.drop, b, h, a.n);
    for (int c0 = from; c0 < end; c0 += COLS) {
        unsigned char *const stage = stages + c0 / COLS % 2 * S::STAGE;
        const SharedAt tile = shared_at(stage), tile2 = shared_at(stage + S::TILE);
        cp_async_wait<0>();
        __syncthreads(); /* this tile is there for all, and all are done with the one before it */
        if (c0 + COLS < end) bring(c0 + COLS);
        const int end0 = c0 + COLS - 1;
        if (KEYS ? !sees_some(c0, end0, first, last, a.window) : !sees_some(first, last, c0, end0, a.window))
            continue;
        const bool all =
            KEYS ? sees_all(c0, end0, first, last, a.window) : sees_all(first, last, c0, end0, a.window);
        float s[M][COLS / 8][4], dp[M][COLS / 8][4];
        unsigned kept[M];
        if (drops) kept_of_tile<M, COLS, KEYS>(kept, a.drop, before, first, c0);
        times_rows<HD, M, COLS>(s, left, tile);
        times_rows<HD, M, COLS>(dp, left2, tile2);
        if (!all)
            mask_scores<M, COLS>(s, [&](int r, int c) {
                return KEYS ? sees(c0 + c, first + r, a.window) : sees(first + r, c0 + c, a.window);
            });
        score_gradient<M, COLS, KEYS>(s, dp, of_row, (const float2 *)(stage + 2 * S::TILE), a.scale * LOG2_E,
                                      drops, kept, a.drop.mask.keep);
        times_columns<HD, M, COLS, S::WIDE>(sum, dp, tile, part);
        if constexpr (KEYS) times_columns<HD, M, COLS, S::WIDE>(sum2, s, tile2, part);
    }
    if (!KEYS && threadIdx.x % 4 == 0)
        for (int i = 0; i < 2 * M; i++) {
            const int r = first + i / 2 * 16 + i % 2 * 8 + threadIdx.x % WARP / 4;
            if (r < a.n) stats[r] = of_row[i / 2][i % 2];
        }
    float by[M][2], one[M][2];
    for (int i = 0; i < 2 * M; i++) by[i / 2][i % 2] = a.scale, one[i / 2][i % 2] = 1;
    __syncthreads(); /* all are done with the rows */
    const Rows to = {a.dqkv + in + (KEYS ? C : 0), 3 * C, a.n}, to2 = {to.p + C, to.step, to.n};
    put_rows<HD, M, S::WIDE>(to, first, a.HS, shared, row, part, sum, by);
    if constexpr (KEYS) put_rows<HD, M, S::WIDE>(to2, first, a.HS, shared2, row, part, sum2, one);
}

/* ---- attention: without tensor cores
 *
 * The same passes in fp32, for training in fp32, and for bf16 heads whose size is no multiple of 8. A warp has ROWS rows; as
 * scores are made each lane has a column of a tile of 32, as they are used every 32nd number of a row. */

enum { PLAIN_WARPS = 8 };

template <typename T>
static __device__ inline void copy_rows(float *tile, int stride, const T *p, int64_t step, int from, int rows,
                                        int n, int HS) {
    for (int i = threadIdx.x; i < rows * HS; i += blockDim.x) {
        const int row = i / HS, c = i % HS;
        tile[row * stride + c] = from + row < n ? to_float(p[(from + row) * step + c]) : 0;
    }
}

/* x[r] = row r of `rows` times this lane's row of `cols`, in four sums, each of which rounds less. */
template <int ROWS>
static __device__ inline void plain_scores(float (&x)[ROWS], const float *rows, const float *cols, int stride,
                                           int HS) {
    const float *mine = cols + threadIdx.x % WARP * stride;
    float sum[4][ROWS] = {};
    for (int c0 = 0; c0 < HS; c0 += 4)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float y = c0 + j < HS ? mine[c0 + j] : 0;
#pragma unroll
            for (int r = 0; r < ROWS; r++) sum[j][r] += rows[r * stride + min(c0 + j, HS - 1)] * y;
        }
#pragma unroll
    for (int r = 0; r < ROWS; r++) x[r] = (sum[0][r] + sum[1][r]) + (sum[2][r] + sum[3][r]);
}

/* sum[r] += over the lanes' x[r] times their rows of `cols`. */
template <int ROWS, int WIDE>
static __device__ inline void plain_sums(float (&sum)[ROWS][WIDE / WARP], const float (&x)[ROWS],
                                         const float *cols, int stride, int HS) {
    const int lane = threadIdx.x % WARP;
    for (int s = 0; s < WARP; s++) {
        float y[ROWS];
        for (int r = 0; r < ROWS; r++) y[r] = __shfl_sync(ALL_LANES, x[r], s);
#pragma unroll
        for (int i = 0; i < WIDE / WARP; i++) {
            const float z = lane + i * WARP < HS ? cols[s * stride + lane + i * WARP] : 0;
#pragma unroll
            for (int r = 0; r < ROWS; r++) sum[r][i] += y[r] * z;
        }
    }
}

template <typename T, int ROWS, int WIDE>
static __device__ inline void plain_put(T *p, int64_t step, int from, int n, int HS,
                                        const float (&x)[ROWS][WIDE / WARP], const float (&by)[ROWS]) {
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int i = 0; i < WIDE / WARP; i++) {
            const int c = threadIdx.x % WARP + i * WARP;
            if (from + r < n && c < HS) p[(from + r) * step + c] = from_float<T>(x[r][i] * by[r]);
        }
}

static __device__ inline float keep_of(const Dropped &d, uint64_t row, int s) {
    return !d.mask.least || kept_of_quad(d, row, s / 4) >> s % 4 & 1 ? d.mask.keep : 0;
}

/* A stride of rows in shared memory that 32 rows' numbers of one column share no bank at. */
static __host__ __device__ inline int plain_stride(int HS) {
    return HS | 1;
}

/* As attention_tiles in training. */
template <typename T, int WIDE, int ROWS>
static __global__ void __launch_bounds__(PLAIN_WARPS *WARP) attention_plain(ForwardArgs<T> a) {
    DYNAMIC_SHARED(shared);
    const int stride = plain_stride(a.HS), lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int tall = PLAIN_WARPS * ROWS;
    float *const q = (float *)shared, *const k = q + tall * stride, *const v = k + WARP * stride;
    const int64_t C = (int64_t)a.NH * a.HS;
    int head, nth;
    dealt(a.deal, &head, &nth);
    const int q0 = (a.deal.tiles - 1 - nth) * tall, first = q0 + warp * ROWS, b = head / a.NH,
              h = head % a.NH;
    const T *const qkv = a.qkv + (int64_t)b * a.n * 3 * C + h * a.HS;
    float max[ROWS], sum[ROWS], acc[ROWS][WIDE / WARP] = {};
    for (int r = 0; r < ROWS; r++) max[r] = FROM_MAX, sum[r] = 0;
    copy_rows(q, stride, qkv, 3 * C, q0, tall, a.n, a.HS);
    for (int s0 = first_seen(q0, a.window); s0 < min(q0 + tall, a.n); s0 += WARP) {
        float s[ROWS];
        __syncthreads();
        copy_rows(k, stride, qkv + C, 3 * C, s0, WARP, a.n, a.HS);
        copy_rows(v, stride, qkv + 2 * C, 3 * C, s0, WARP, a.n, a.HS);
        __syncthreads();
        plain_scores<ROWS>(s, q + warp * ROWS * stride, k, stride, a.HS);
        for (int r = 0; r < ROWS; r++) {
            const float x = sees(first + r, s0 + lane, a.window) ? s[r] * a.scale : -INFINITY;
            const float now = fmaxf(max[r], warp_max(x)), shrink = expf(max[r] - now);
            s[r] = expf(x - now);
            max[r] = now, sum[r] = sum[r] * shrink + warp_sum(s[r]);
            for (int i = 0; i < WIDE / WARP; i++) acc[r][i] *= shrink;
            s[r] *= keep_of(a.drop, dropped_rows(a.drop, b, h, a.n) + first + r, s0 + lane);
        }
        plain_sums<ROWS, WIDE>(acc, s, v, stride, a.HS);
    }
    float by[ROWS];
    for (int r = 0; r < ROWS; r++) {
        by[r] = 1 / sum[r];
        if (lane == 0 && first + r < a.n) a.lse[(int64_t)head * a.n + first + r] = max[r] + logf(sum[r]);
    }
    plain_put<T, ROWS, WIDE>(a.out + (int64_t)b * a.n * C + h * a.HS, C, first, a.n, a.HS, acc, by);
}

/* As attention_gradient. */
template <typename T, int WIDE, int ROWS, bool KEYS>
static __global__ void __launch_bounds__(PLAIN_WARPS *WARP) attention_plain_gradient(BackwardArgs<T> a) {
    DYNAMIC_SHARED(shared);
    const int stride = plain_stride(a.HS), lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int tall = PLAIN_WARPS * ROWS, HS = a.HS;
    float *const rows = (float *)shared, *const rows2 = rows + tall * stride;
    float *const cols = rows2 + tall * stride, *const cols2 = cols + WARP * stride;
    const int64_t C = (int64_t)a.NH * HS;
    int nth_head, nth;
    dealt(a.deal, &nth_head, &nth);
    const int r0 = (KEYS ? nth : a.deal.tiles - 1 - nth) * tall, first = r0 + warp * ROWS,
              head = a.head0 + nth_head;
    const int b = head / a.NH, h = head % a.NH;
    const int64_t in = (int64_t)b * a.n * 3 * C + h * HS, of_out = (int64_t)b * a.n * C + h * HS;
    const T *const q = a.qkv + in, *const k = q + C, *const v = k + C, *const o = a.dout + of_out;
    float2 *const stats = a.stats + (int64_t)nth_head * a.n;
    const int end = min(a.n, !KEYS ? r0 + tall : a.window < a.n ? r0 + tall - 1 + a.window : a.n);
    float sum[ROWS][WIDE / WARP] = {}, sum2[ROWS][WIDE / WARP] = {}, by[ROWS], one[ROWS];
    float2 of_row[ROWS];
    copy_rows(rows, stride, KEYS ? k : q, 3 * C, r0, tall, a.n, HS);
    copy_rows(rows2, stride, KEYS ? v : o, KEYS ? 3 * C : C, r0, tall, a.n, HS);
    __syncthreads();
    for (int r = 0; r < ROWS; r++) {
        float D = 0;
        by[r] = a.scale, one[r] = 1;
        for (int c = lane; c < HS && !KEYS && first + r < a.n; c += WARP)
            D += rows2[(warp * ROWS + r) * stride + c] * to_float(a.out[of_out + (first + r) * C + c]);
        of_row[r] = {0, warp_sum(D)};
        if (KEYS || first + r >= a.n) continue;
        of_row[r].x = a.lse[(int64_t)head * a.n + first + r];
        if (lane == 0) stats[first + r] = of_row[r];
    }
    for (int c0 = KEYS ? r0 : first_seen(r0, a.window); c0 < end; c0 += WARP) {
        float s[ROWS], dp[ROWS];
        const int col = c0 + lane;
        __syncthreads();
        copy_rows(cols, stride, KEYS ? q : k, 3 * C, c0, WARP, a.n, HS);
        copy_rows(cols2, stride, KEYS ? o : v, KEYS ? C : 3 * C, c0, WARP, a.n, HS);
        __syncthreads();
        plain_scores<ROWS>(s, rows + warp * ROWS * stride, cols, stride, HS);
        plain_scores<ROWS>(dp, rows2 + warp * ROWS * stride, cols2, stride, HS);
        for (int r = 0; r < ROWS; r++) {
            const int row = first + r, at = KEYS ? col : row, key = KEYS ? row : col;
            float p = 0, keep = 0;
            float2 of = {0, 0};
            if (at < a.n && sees(at, key, a.window)) {
                of = KEYS ? stats[col] : of_row[r];
                p = expf(s[r] * a.scale - of.x);
                keep = keep_of(a.drop, dropped_rows(a.drop, b, h, a.n) + at, key);
            }
            dp[r] = p * (dp[r] * keep - of.y), s[r] = p * keep;
        }
        plain_sums<ROWS, WIDE>(sum, dp, cols, stride, HS);
        if (KEYS) plain_sums<ROWS, WIDE>(sum2, s, cols2, stride, HS);
    }
    T *const to = a.dqkv + in + (KEYS ? C : 0);
    plain_put<T, ROWS, WIDE>(to, 3 * C, first, a.n, HS, sum, by);
    if (KEYS) plain_put<T, ROWS, WIDE>(to + C, 3 * C, first, a.n, HS, sum2, one);
}

/* ---- attention: serving
 *
 * A block has one token, one head and a chunk of the cache, so that a single sequence keeps a GPU busy (flash-decoding,
 * Dao et al. 2023); the last chunk to be done joins them all, in their order. Chunks depend on the cache's capacity only,
 * so the grid is the same at every step, and so is a row's result whichever others are in the list. */

enum {
    DECODE_THREADS = 128,
    DECODE_WARPS = DECODE_THREADS / WARP,
    AT_ONCE = 4,
    CHUNKS = 32,
    CHUNK_MULTIPLE = 64
};
enum { SHORT_LIST = 16, ARRIVALS = 1 << 16 };

template <typename T> struct DecodeArgs {
    T *qkv, *out, *k, *v;
    const int32_t *slot, *pos;
    int64_t capacity;
    int n, NH, HS, window, chunk, chunks;
    int first, end, each; /* tokens of this launch; of a block */
    int tile;             /* rows of the tiles that attention_tiles takes; 0: it takes none */
    bool stored;          /* are the list's keys in the cache already? */
    float scale;
    float *partial;    /* [tokens, NH, chunks, HS + 2]: the sum of P V, the maximum, the sum of P */
    unsigned *arrived; /* [tokens, NH], zeros */
};

/* N numbers from p on, of which `have` exist. */
template <typename T>
static __device__ inline void some_numbers(float (&x)[16 / sizeof(T)], const T *p, int have, bool aligned) {
    enum { N = 16 / sizeof(T) };
    if (aligned && have >= N) {
        const Pack<T> y = *(const Pack<T> *)p;
        for (int j = 0; j < N; j++) x[j] = to_float(y.at[j]);
    } else
        for (int j = 0; j < N; j++) x[j] = j < have ? to_float(p[j]) : 0;
}

/* Keys that stand in the list itself may not be in the cache yet: the blocks of other tokens store them. */
template <typename T> struct KeySource {
    const T *k, *v, *list; /* the head's cache; the list's first row of it */
    const int32_t *pos;
    int64_t row, C;
    int i, oldest; /* the token, and its slot's first one in the list */
    bool stored;

    __device__ inline void find(int s, const T **key, const T **value) const {
        *key = k + s * row, *value = v + s * row;
        for (int j = i; !stored && j >= oldest && pos[j] >= s; j--)
            if (pos[j] == s) *key = list + j * 3 * C + C, *value = *key + C;
    }
};

/* What some threads have summed up; joined with what others have. */
template <int N> struct Part {
    float max, sum, acc[N];

    __device__ inline void join(float max2, float sum2, const float (&acc2)[N]) {
        const float top = fmaxf(max, max2), by = exp2_approx(max - top), by2 = exp2_approx(max2 - top);
        max = top, sum = sum * by + sum2 * by2;
        for (int j = 0; j < N; j++) acc[j] = acc[j] * by + acc2[j] * by2;
    }
};

/* Keys from .. end - 1 of one token, by all of the block: LANES lanes share a key, each with PACKS times 16 bytes of it.
 * Each lane of the first group of each warp is left with its warp's part. */
template <typename T, int LANES, int N>
static __device__ inline void decode_keys(Part<N> &o, const T *q, const KeySource<T> &source, int from,
                                          int end, int HS, float scale) {
    enum { EACH = 16 / sizeof(T), PACKS = N / EACH, GROUPS = DECODE_THREADS / LANES };
    const int c0 = threadIdx.x % LANES * EACH;
    float mine[PACKS][EACH];
    o.max = FROM_MAX, o.sum = 0;
    for (int j = 0; j < N; j++) o.acc[j] = 0;
    for (int p = 0; p < PACKS; p++)
        some_numbers<T>(mine[p], q + c0 + p * LANES * EACH, HS - c0 - p * LANES * EACH, HS % EACH == 0);
    for (int s0 = from; s0 < end; s0 += AT_ONCE * GROUPS) {
        float k[AT_ONCE][PACKS][EACH], v[AT_ONCE][PACKS][EACH];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const T *key, *value;
            const int s = s0 + u * GROUPS + threadIdx.x / LANES;
            source.find(min(s, end - 1), &key, &value);
#pragma unroll
            for (int p = 0; p < PACKS; p++) {
                const int c = c0 + p * LANES * EACH, have = s < end ? HS - c : 0;
                some_numbers<T>(k[u][p], key + c, have, HS % EACH == 0);
                some_numbers<T>(v[u][p], value + c, have, HS % EACH == 0);
            }
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            float x = 0;
            for (int i = 0; i < N; i++) x += mine[i / EACH][i % EACH] * k[u][i / EACH][i % EACH];
            for (int d = LANES / 2; d > 0; d /= 2) x += __shfl_xor_sync(ALL_LANES, x, d);
            if (s0 + u * GROUPS + (int)threadIdx.x / LANES >= end) x = -INFINITY;
            if (x * scale > o.max + NEAR) {
                const float now = ceilf(x * scale), shrink = exp2_approx(o.max - now);
                o.max = now, o.sum *= shrink;
                for (int i = 0; i < N; i++) o.acc[i] *= shrink;
            }
            const float p = exp2_approx(fmaf(x, scale, -o.max)), rounded = to_float(from_float<T>(p));
            o.sum += p;
            for (int i = 0; i < N; i++) o.acc[i] += rounded * v[u][i / EACH][i % EACH];
        }
    }
    for (int d = LANES; d < WARP; d *= 2) {
        const float max2 = __shfl_xor_sync(ALL_LANES, o.max, d), sum2 = __shfl_xor_sync(ALL_LANES, o.sum, d);
        float acc2[N];
        for (int i = 0; i < N; i++) acc2[i] = __shfl_xor_sync(ALL_LANES, o.acc[i], d);
        o.join(max2, sum2, acc2);
    }
}

/* Joins n parts [.., HS + 2] for column c. */
static __device__ inline void join_parts(Part<1> &o, const float *part, int n, int c, int HS) {
    o.max = FROM_MAX, o.sum = 0, o.acc[0] = 0;
    for (int i = 0; i < n; i++, part += HS + 2) {
        const float acc[1] = {__ldcg(part + c)};
        o.join(__ldcg(part + HS), __ldcg(part + HS + 1), acc);
    }
}

/* Block (chunk, head, tokens). Reads the token's keys and values once: 2 (pos + 1) HS numbers a head, 4 (pos + 1) HS FLOPs. */
template <typename T, int HD>
static __global__ void __launch_bounds__(DECODE_THREADS) attention_decode(DecodeArgs<T> a) {
    enum { EACH = 16 / sizeof(T), LANES = HD / EACH < 32 ? HD / EACH : 32, N = HD / LANES };
    DYNAMIC_SHARED(shared);
    float *const parts = (float *)shared; /* [warps][HS + 2] */
    int *const last_to_come = (int *)(parts + DECODE_WARPS * (a.HS + 2));
    const int chunk = blockIdx.x, h = blockIdx.y, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP,
              HS = a.HS;
    const int64_t C = (int64_t)a.NH * HS;
    const int i0 = a.first + blockIdx.z * a.each;
    for (int i = i0; i < min(i0 + a.each, a.end); i++) {
        const int pos = a.pos[i], first = first_seen(pos, a.window);
        const int from = max(first, chunk * a.chunk), end = min(pos + 1, (chunk + 1) * a.chunk);
        if (from >= end) continue;
        if (a.tile && one_slot(a.slot, i / a.tile * a.tile, a.tile, a.n)) continue;
        const int first_chunk = first / a.chunk, chunks = pos / a.chunk - first_chunk + 1;
        const int64_t cache = ((int64_t)a.slot[i] * a.NH + h) * a.capacity * HS, list = (int64_t)h * HS;
        KeySource<T> source = {a.k + cache, a.v + cache, a.qkv + list, a.pos, HS, C, i, i, a.stored};
        while (!source.stored && source.oldest > 0 && a.slot[source.oldest - 1] == a.slot[i]) source.oldest--;
        const T *const q = a.qkv + list + i * 3 * C;
        if (!source.stored && end == pos + 1)
            for (int c = threadIdx.x; c < HS; c += DECODE_THREADS)
                a.k[cache + pos * (int64_t)HS + c] = q[C + c],
                                                a.v[cache + pos * (int64_t)HS + c] = q[2 * C + c];

        Part<N> o;
        decode_keys<T, LANES, N>(o, q, source, from, end, HS, a.scale);
        __syncthreads(); /* the token before is done with `parts` */
        float *const part = parts + warp * (HS + 2);
        for (int j = 0; j < N; j++) {
            const int c = (j / EACH * LANES + lane) * EACH + j % EACH;
            if (lane < LANES && c < HS) part[c] = o.acc[j];
        }
        if (lane == 0) part[HS] = o.max, part[HS + 1] = o.sum;
        __syncthreads();

        const int64_t task = (int64_t)(i - a.first) * a.NH + h;
        float *const all = a.partial + task * a.chunks * (HS + 2), *const own =
                                                                       all + (chunk - first_chunk) * (HS + 2);
        T *const out = a.out + i * C + list;
        for (int c = threadIdx.x; c < HS; c += DECODE_THREADS) {
            Part<1> x;
            join_parts(x, parts, DECODE_WARPS, c, HS);
            if (chunks == 1)
                out[c] = from_float<T>(x.acc[0] / x.sum);
            else
                own[c] = x.acc[0];
            if (chunks > 1 && c == 0) own[HS] = x.max, own[HS + 1] = x.sum;
        }
        if (chunks == 1) continue;
        __threadfence(); /* what this thread wrote can be seen before it is counted */
        __syncthreads();
        if (threadIdx.x == 0) {
            *last_to_come = atomicAdd(a.arrived + task, 1u) == (unsigned)chunks - 1;
            if (*last_to_come) a.arrived[task] = 0;
        }
        __syncthreads();
        if (!*last_to_come) continue;
        __threadfence();
        for (int c = threadIdx.x; c < HS; c += DECODE_THREADS) {
            Part<1> x;
            join_parts(x, all, chunks, c, HS);
            out[c] = from_float<T>(x.acc[0] / x.sum);
        }
    }
}

/* Block i: the keys and values of row i of the list to their places; 4 C numbers. */
template <typename T> static __global__ void cache_store(DecodeArgs<T> a) {
    const int i = blockIdx.x;
    const int64_t C = (int64_t)a.NH * a.HS;
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
        const int64_t h = c / a.HS, at = ((a.slot[i] * a.NH + h) * a.capacity + a.pos[i]) * a.HS + c % a.HS;
        a.k[at] = a.qkv[(3 * i + 1) * C + c], a.v[at] = a.qkv[(3 * i + 2) * C + c];
    }
}

/* ---- attention: the ops */

/* Counts the chunks that are done, zero between launches. */
static unsigned *arrived; /* [ARRIVALS] */

static bool attention_start(Err *e) {
    if (!arrived) arrived = (unsigned *)cuda_alloc(ARRIVALS * sizeof *arrived, "attention's counters", e);
    return arrived != NULL;
}

template <int N> struct Const {
    enum { value = N };
};
/* The sizes of real models have kernels of their own for when nothing is dropped; in the others one kernel does both. */
static constexpr bool has_both(int HD) {
    return HD >= 64 && HD <= 128;
}
template <typename F> static void by_head_size(int HS, F f) {
    CHECK(HS >= 1 && HS <= 256, "heads of %d: CUDA's attention takes up to 256", HS);
    if (HS <= 32) return f(Const<32>());
    if (HS <= 64) return f(Const<64>());
    if (HS <= 96) return f(Const<96>());
    if (HS <= 128) return f(Const<128>());
    f(Const<256>());
}
template <typename F> static void by_power(int HS, F f) {
    CHECK(HS >= 1 && HS <= 256, "heads of %d: CUDA's attention takes up to 256", HS);
    if (HS <= 32) return f(Const<32>());
    if (HS <= 64) return f(Const<64>());
    if (HS <= 128) return f(Const<128>());
    f(Const<256>());
}

static int window_of(const Attention *a) {
    return a->window ? a->window : INT32_MAX;
}
static size_t plain_bytes(int rows, int HS) {
    return (size_t)(rows * plain_stride(HS)) * sizeof(float);
}

template <typename T>
static ForwardArgs<T> forward_args(Tensor out, float *lse, Tensor qkv, const Attention *a, int n) {
    ForwardArgs<T> x = {};
    x.qkv = (T *)qkv.p, x.out = (T *)out.p, x.lse = lse;
    x.n = n, x.NH = a->NH, x.HS = a->HS, x.window = window_of(a);
    x.scale = a->scale, x.drop.mask.keep = 1;
    return x;
}

template <int HD, bool DROPS> static void launch_tiles(ForwardArgs<bf16> x, int heads) {
    typedef ForwardShape<HD, DROPS> S;
    x.scale *= LOG2_E;
    x.deal = deal_of(heads, ceil_div(x.n, (int)S::ROWS), (int64_t)x.n * x.HS * 4);
    launch(attention_tiles<HD, DROPS>, heads * x.deal.tiles, S::THREADS, S::SHARED, x);
}

/* Do tensor cores serve it? */
static bool in_tiles(Dtype d, int HS) {
    return d == DT_BF16 && HS % 8 == 0;
}

template <typename T> static void plain(ForwardArgs<T> x, int heads) {
    by_power(x.HS, [&](auto wide) {
        enum { WIDE = decltype(wide)::value, ROWS = 4, TALL = ROWS * PLAIN_WARPS };
        x.deal = deal_of(heads, ceil_div(x.n, (int)TALL), (int64_t)(x.n * x.HS * 2 * sizeof(T)));
        launch(attention_plain<T, WIDE, ROWS>, heads * x.deal.tiles, PLAIN_WARPS * WARP,
               plain_bytes(TALL + 2 * WARP, x.HS), x);
    });
}

static void cuda_attention_forward(Tensor out, float *lse, Tensor qkv, const Attention *a) {
    const int heads = a->B * a->NH;
    with_type(qkv.dtype, [&](auto t) {
        typedef decltype(t) T;
        ForwardArgs<T> x = forward_args<T>(out, lse, qkv, a, a->T);
        x.drop = dropped_of(a);
        if constexpr (sizeof(T) == 2)
            if (in_tiles(qkv.dtype, a->HS))
                return by_head_size(a->HS, [&](auto hd) {
                    enum { HD = decltype(hd)::value };
                    a->drop.p > 0 ? launch_tiles<HD, true>(x, heads)
                                  : launch_tiles<HD, !has_both(HD)>(x, heads);
                });
        plain(x, heads);
    });
}

template <int HD, bool KEYS, bool DROPS> static void launch_gradient(BackwardArgs<bf16> x, int heads) {
    typedef BackwardShape<HD, KEYS> S;
    x.deal = deal_of(heads, ceil_div(x.n, (int)S::ROWS), (int64_t)x.n * x.HS * 4);
    launch(attention_gradient<HD, KEYS, DROPS>, heads * x.deal.tiles, S::THREADS, S::SHARED, x);
}

static void gradient(BackwardArgs<bf16> x, int heads, bool drops) {
    by_head_size(x.HS, [&](auto hd) {
        enum { HD = decltype(hd)::value };
        if (drops)
            launch_gradient<HD, false, true>(x, heads), launch_gradient<HD, true, true>(x, heads);
        else
            launch_gradient<HD, false, !has_both(HD)>(x, heads),
                launch_gradient<HD, true, !has_both(HD)>(x, heads);
    });
}

template <typename T> static void plain(BackwardArgs<T> x, int heads) {
    by_power(x.HS, [&](auto wide) {
        enum { WIDE = decltype(wide)::value, ROWS = WIDE > 128 ? 2 : 4, TALL = ROWS * PLAIN_WARPS };
        const size_t bytes = plain_bytes(2 * TALL + 2 * WARP, x.HS);
        x.deal = deal_of(heads, ceil_div(x.n, (int)TALL), (int64_t)(x.n * x.HS * 2 * sizeof(T)));
        launch(attention_plain_gradient<T, WIDE, ROWS, false>, heads * x.deal.tiles, PLAIN_WARPS * WARP,
               bytes, x);
        launch(attention_plain_gradient<T, WIDE, ROWS, true>, heads * x.deal.tiles, PLAIN_WARPS * WARP, bytes,
               x);
    });
}

static void cuda_attention_backward(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                                    const Attention *a) {
    const int heads = a->B * a->NH, fit = (int)(SCRATCH / sizeof(float2)) / a->T;
    CHECK(dout.dtype == qkv.dtype, "attention's gradient must have its input's dtype");
    CHECK(fit > 0, "sequences of %d tokens", a->T);
    with_type(qkv.dtype, [&](auto t) {
        typedef decltype(t) T;
        BackwardArgs<T> x = {};
        x.qkv = (T *)qkv.p, x.dqkv = (T *)dqkv.p, x.out = (T *)out.p, x.dout = (T *)dout.p;
        x.lse = lse, x.stats = (float2 *)workspace(SCRATCH);
        x.n = a->T, x.NH = a->NH, x.HS = a->HS, x.window = window_of(a), x.scale = a->scale,
        x.drop = dropped_of(a);
        /* As many heads at a time as have room for their statistics: all, but for more than 8 million queries. */
        for (; x.head0 < heads; x.head0 += fit) {
            const int some = min(fit, heads - x.head0);
            if constexpr (sizeof(T) == 2)
                if (in_tiles(qkv.dtype, a->HS)) {
                    gradient(x, some, a->drop.p > 0);
                    continue;
                }
            plain(x, some);
        }
    });
}

/* As many tokens at a time as there is room for their parts and counters. */
template <typename T> static void decode(DecodeArgs<T> x) {
    const int64_t bytes = (int64_t)x.NH * x.chunks * (x.HS + 2) * (int64_t)sizeof(float);
    const int fit = (int)min((int64_t)SCRATCH / bytes, (int64_t)ARRIVALS / x.NH);
    CHECK(fit > 0, "%d heads", x.NH);
    x.partial = (float *)workspace(SCRATCH), x.arrived = arrived;
    x.each = max(1, min(x.n / 64, 16)); /* a long list has blocks enough, many of them with nothing to do */
    for (; x.first < x.n; x.first = x.end) {
        x.end = min(x.n, x.first + fit);
        const dim3 grid(x.chunks, x.NH, ceil_div(x.end - x.first, x.each));
        by_power(x.HS, [&](auto hd) {
            enum { HD = decltype(hd)::value };
            launch(attention_decode<T, HD>, grid, DECODE_THREADS,
                   (DECODE_WARPS * (x.HS + 2) + 1) * sizeof(float), x);
        });
    }
}

template <typename T>
static DecodeArgs<T> decode_args(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity,
                                 const int32_t *slot, const int32_t *pos, int n, const Attention *a) {
    DecodeArgs<T> x = {};
    x.qkv = (T *)qkv.p, x.out = (T *)out.p, x.k = (T *)k.p, x.v = (T *)v.p;
    x.slot = slot, x.pos = pos, x.capacity = capacity;
    x.n = n, x.NH = a->NH, x.HS = a->HS, x.window = window_of(a), x.scale = a->scale * LOG2_E;
    x.chunk = (int)ceil_div(ceil_div(capacity, (int64_t)CHUNKS), (int64_t)CHUNK_MULTIPLE) * CHUNK_MULTIPLE;
    x.chunks = (int)ceil_div(capacity, (int64_t)x.chunk);
    return x;
}

static void cuda_attention_cached(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity,
                                  const int32_t *slot, const int32_t *pos, int64_t n, const Attention *a) {
    CHECK(k.dtype == qkv.dtype && v.dtype == qkv.dtype, "the cache must have the activations' dtype");
    with_type(qkv.dtype, [&](auto t) {
        typedef decltype(t) T;
        DecodeArgs<T> x = decode_args<T>(out, qkv, k, v, capacity, slot, pos, (int)n, a);
        x.stored = n >= SHORT_LIST;
        if (x.stored) launch(cache_store<T>, (unsigned)n, 256, 0, x);
        if constexpr (sizeof(T) == 2)
            if (x.stored && in_tiles(qkv.dtype, a->HS)) {
                ForwardArgs<bf16> y = forward_args<bf16>(out, NULL, qkv, a, (int)n);
                y.k = x.k, y.v = x.v, y.slot = slot, y.pos = pos, y.capacity = capacity;
                by_head_size(a->HS, [&](auto hd) {
                    enum { HD = decltype(hd)::value };
                    x.tile = ForwardShape<HD, false>::ROWS;
                    launch_tiles<HD, !has_both(HD)>(y, a->NH);
                });
            }
        decode(x);
    });
}
