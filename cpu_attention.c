/* cpu_attention.c - floor 1: causal self-attention in memory linear in T (FlashAttention-2, Dao 2023) over
 * cpu_product.
 *
 * Work goes by tiles of QUERIES queries by KEYS keys, and a tile of scores lies turned over: a row a key, a column a
 * query. So the softmax runs down the columns, a vector of queries at a time, and no operand but the queries must be
 * transposed: the products' left sides (K, V, and the probabilities and their gradients) are words along a row, their
 * right sides words of two rows below each other.
 *
 *   forward    S = K Q^T,  P = exp(S - m),  O += P^T V
 *   backward   S, P again from lse;  dP = V dO^T,  dS = P (dP - D),  dV += P dO,  dK += dS Q,  dQ += dS^T K
 *
 * where D, of each query, is the sum of dO O. Tiles beyond the diagonal or outside the window are never made; within
 * a tile that the diagonal cuts, products leave out what lies beyond it in steps of STEP. */
#include "cpu.h"

enum { QUERIES = 64, KEYS = 64, STEP = 16 };

/* The rows of one head of some tensor: row t at element at + t * step. */
typedef struct Rows {
    Tensor t;
    int64_t at, step;
} Rows;

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static Rows rows_from(Rows r, int64_t t) {
    r.at += t * r.step;
    return r;
}

/* ---- operands: words along rows, or of two rows, in scratch ---------------------------------------------- */

/* The sizes that all operands of one call share. */
typedef struct Shape {
    Dtype d;
    int HS;
    int per;   /* numbers in a word */
    int words; /* words of a row along HS */
    int lanes; /* HS rounded up to whole vectors */
} Shape;

static Shape shape_of(const Attention *a, Dtype d) {
    const int per = d == DT_F32 ? 1 : 2;
    return (Shape){d, a->HS, per, (a->HS + per - 1) / per, (int)round_up(a->HS, LANES)};
}

/* Words that n rows take, along the rows and across them. */
static int64_t along_words(const Shape *s, int64_t n) {
    return round_up(n * s->words, 16);
}
static int64_t across_words(const Shape *s, int64_t n) {
    return round_up((n + s->per - 1) / s->per * s->lanes, 16);
}

/* dst [n][words]: rows as they are, an odd one out padded with zero. */
static void pack_along(uint32_t *dst, Rows r, int64_t n, const Shape *s) {
    const size_t bytes = (size_t)s->HS * dtype_size(s->d);
    for (int64_t t = 0; t < n; t++, dst += s->words) {
        dst[s->words - 1] = 0;
        memcpy(dst, tensor_at(r.t, r.at + t * r.step).p, bytes);
    }
}

/* A tile ahead of the row that is packed: rows that come from memory are on their way while others are worked on. */
static void prefetch_row(Rows r, int64_t t, const Shape *s) {
    const char *row = tensor_at(r.t, r.at + (t + KEYS) * r.step).p;
    for (size_t at = 0; at < (size_t)s->HS * dtype_size(s->d); at += 64) __builtin_prefetch(row + at);
}

/* dst [ceil(n / per)][lanes]: words of `per` rows below each other, zeros where there are none. */
static void pack_across(uint32_t *dst, Rows r, int64_t n, const Shape *s) {
    for (int64_t t = 0; t < n; t += s->per, dst += s->lanes) {
        const void *first = tensor_at(r.t, r.at + t * r.step).p;
        for (int i = 0; i < s->per; i++) prefetch_row(r, t + i, s);
        memset(dst + s->HS, 0, (size_t)(s->lanes - s->HS) * sizeof *dst);
        if (s->d == DT_F32)
            memcpy(dst, first, (size_t)s->HS * sizeof *dst);
        else if (t + 1 < n)
            words_across(dst, first, tensor_at(r.t, r.at + (t + 1) * r.step).p, s->HS);
        else
            for (int c = 0; c < s->HS; c++) dst[c] = ((const uint16_t *)first)[c];
    }
}

/* dst [words][QUERIES]: up to QUERIES rows turned over, zeros where there are none; rows of whole groups of four words
 * from where they lie. */
static void pack_turned(uint32_t *dst, Rows r, int64_t n, const Shape *s) {
    const int64_t width = round_up(s->words, 4), direct = s->HS == width * s->per ? n / 4 * 4 : 0;
    uint32_t rest[QUERIES * width];
    for (int64_t q = 0; q < direct; q += 4) {
        for (int i = 0; i < 4; i++) prefetch_row(r, q + i, s);
        words_turn(dst + q, QUERIES, tensor_at(r.t, r.at + q * r.step).p, r.step / s->per, 4, s->words);
    }
    if (direct == QUERIES) return;
    memset(rest, 0, (size_t)((QUERIES - direct) * width) * sizeof *rest);
    for (int64_t q = direct; q < n; q++)
        memcpy(rest + (q - direct) * width, tensor_at(r.t, r.at + q * r.step).p,
               (size_t)s->HS * dtype_size(s->d));
    words_turn(dst + direct, QUERIES, rest, width, QUERIES - direct, s->words);
}

/* ---- what both passes do with a tile --------------------------------------------------------------------- */

/* A tile: keys s0 .. s0 + keys - 1 against the queries at positions p0 .. p0 + QUERIES - 1. */
typedef struct Tile {
    const Attention *a;
    int64_t p0, s0, keys;
    uint64_t drop0; /* the dropout's index of (position p0, key 0) */
    uint64_t drop_step;
} Tile;

/* The first of the tile's columns that may see key s0 + i, rounded down to whole vectors: those before it are masked. */
static int64_t first_query(const Tile *t, int64_t i) {
    return most(0, t->s0 + i - t->p0) / STEP * STEP;
}

/* scores [keys][QUERIES] = rows of k times columns of turned q, where not masked whole. */
static void tile_scores(float (*scores)[QUERIES], const uint32_t *k, const uint32_t *turned, const Tile *t,
                        const Shape *s) {
    for (int64_t i = 0, n; i < t->keys; i += n) {
        const int64_t q = first_query(t, i);
        n = t->s0 + t->keys - 1 <= t->p0 ? t->keys : least(STEP, t->keys - i);
        cpu_product(&(Product){.c = &scores[i][q],
                               .c_row = QUERIES,
                               .a = k + i * s->words,
                               .a_row = s->words,
                               .a_step = 1,
                               .b = turned + q,
                               .b_step = QUERIES,
                               .steps = s->words,
                               .rows = n,
                               .cols = QUERIES - q},
                    s->d);
    }
}

/* What a query may not see gets `value`. */
static void tile_mask(float (*scores)[QUERIES], const Tile *t, float value) {
    const int64_t w = t->a->window;
    if (t->s0 + t->keys - 1 <= t->p0 && (!w || t->p0 + QUERIES - t->s0 <= w)) return;
    for (int64_t i = 0; i < t->keys; i++) {
        const int64_t seen = t->s0 + i - t->p0,
                      end = w ? seen + w : QUERIES; /* columns seen .. end - 1 see it */
        for (int64_t q = 0; q < least(seen, QUERIES); q++) scores[i][q] = value;
        for (int64_t q = most(0, end); q < QUERIES; q++) scores[i][q] = value;
    }
}

/* f [keys][QUERIES]: the dropout's factors. A column's keys are neighbours in its numbering, so four rows of eight come
 * at a time; s0 is a multiple of four. */
static void tile_dropout(float (*f)[QUERIES], const Tile *t) {
    for (int64_t i = 0; i < t->keys; i += 4)
        for (int q = 0; q < QUERIES; q += 8) {
            float some[4][8];
            const uint64_t at = t->drop0 + (uint64_t)q * t->drop_step + (uint64_t)(t->s0 + i);
            dropout_factors(some, &t->a->drop, at, t->drop_step);
            for (int r = 0; r < 4; r++) memcpy(&f[i + r][q], some[r], sizeof some[r]);
        }
}

/* dst: words of the tile's rows, `per` keys below each other: the left side, turned over, of a product over keys.
 * An odd last key gets a row of zeros below it. */
static void tile_across(uint32_t *dst, float (*p)[QUERIES], int64_t keys, const Shape *s) {
    if (s->d == DT_F32) {
        memcpy(dst, p, (size_t)keys * sizeof *p);
        return;
    }
    if (keys % 2) memset(p[keys], 0, sizeof *p);
    for (int64_t i = 0; i < keys; i += 2, dst += QUERIES)
        for (int q = 0; q < QUERIES; q++)
            dst[q] = f32_to_bf16(p[i][q]) | (uint32_t)f32_to_bf16(p[i + 1][q]) << 16;
}

/* c [QUERIES][lanes] += the tile (words across keys) times rows of `right` (words across keys), each STEP of queries
 * up to the last key that it sees. */
static void tile_to_queries(float *c, const uint32_t *tile, const uint32_t *right, const Tile *t,
                            const Shape *s) {
    for (int64_t q = 0, n; q < QUERIES; q += n) {
        const int64_t seen = t->p0 + q + STEP - t->s0;
        const bool all = t->s0 + t->keys - 1 <= t->p0;
        n = all ? QUERIES : STEP;
        cpu_product(&(Product){.c = c + q * s->lanes,
                               .c_row = s->lanes,
                               .a = tile + q,
                               .a_row = 1,
                               .a_step = QUERIES,
                               .b = right,
                               .b_step = s->lanes,
                               .steps = ((all ? t->keys : least(t->keys, seen)) + s->per - 1) / s->per,
                               .rows = n,
                               .cols = s->lanes,
                               .add = true},
                    s->d);
    }
}

/* ---- forward --------------------------------------------------------------------------------------------- */

/* `queries` rows at positions first, first + 1, ... against keys 0 .. of one head. */
typedef struct Head {
    Rows q, k, v, out;
    float *lse; /* [queries] or NULL */
    int64_t first, queries;
    uint64_t drop0, drop_step; /* the dropout's index of (first, key 0), and from one query to the next */
} Head;

static int64_t first_key(const Attention *a, int64_t position) {
    return a->window && position >= a->window ? position - a->window + 1 : 0;
}

/* Where the tiles begin for a query: multiples of KEYS, so that its sums are cut at the same keys whichever queries
 * share its tile. */
static int64_t first_tile(const Attention *a, int64_t position) {
    return first_key(a, position) / KEYS * KEYS;
}

/* The online softmax (Milakov & Gimelshein 2018): `max` need not be the maximum, only near it, so it is raised, and
 * what was summed scaled down, when a query's scores have outgrown it by NEAR (Dao 2023 rescales at every tile). */
#define NEAR 8.0f

/* One query's, out of line: were the product fused with the addition that follows it in some caller, and not in another,
 * the two would round differently. */
__attribute__((noinline)) static void raise_one(float *max, float *sum, float *acc, float top, int lanes) {
    const float shrink = exp_fast(*max - top);
    *max = top, *sum *= shrink;
    for (int c = 0; c < lanes; c++) acc[c] *= shrink;
}

static void raise_maximum(float *max, float *sum, float *acc, float (*scores)[QUERIES], const Tile *t,
                          const Shape *s) {
    float top[QUERIES];
    bool raise = false;
    for (int q = 0; q < QUERIES; q++) top[q] = max[q];
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) top[q] = scores[i][q] > top[q] ? scores[i][q] : top[q];
    for (int q = 0; q < QUERIES; q++) raise |= top[q] > max[q] + NEAR;
    if (!raise) return;
    for (int q = 0; q < QUERIES; q++) /* a query's sums depend on its own scores alone */
        if (top[q] > max[q] + NEAR) raise_one(max + q, sum + q, acc + q * s->lanes, top[q], s->lanes);
}

/* scores becomes exp(scores - max), and their sums grow: in loops of their own, lest a compiler fuse the addition with
 * the last product of some exponentials, and so round some sums otherwise. */
static void exponentials(float (*scores)[QUERIES], const float *max, float *sum, const Tile *t) {
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) scores[i][q] = exp_fast(scores[i][q] - max[q]);
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) sum[q] += scores[i][q];
}

static void scale_scores(float (*scores)[QUERIES], const Tile *t) {
    const float scale = t->a->scale;
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) scores[i][q] *= scale;
}

static void drop_probabilities(float (*p)[QUERIES], const Tile *t) {
    float f[KEYS][QUERIES];
    tile_dropout(f, t);
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) p[i][q] *= f[i][q];
}

/* Queries from .. to - 1 of a head; from is a multiple of QUERIES. */
static void forward_queries(const Head *h, const Attention *a, int64_t from, int64_t to) {
    const Shape s = shape_of(a, h->k.t.dtype);
    const int64_t low = first_tile(a, h->first + from), high = h->first + to;
    uint32_t *k = cpu_scratch((size_t)(along_words(&s, high - low) + across_words(&s, high - low) +
                                       (s.words + s.lanes + 3 * KEYS) * QUERIES) *
                              sizeof *k);
    uint32_t *v = k + along_words(&s, high - low), *turned = v + across_words(&s, high - low);
    uint32_t *p = turned + s.words * QUERIES;
    float *acc = (float *)(p + KEYS * QUERIES);
    float(*scores)[QUERIES] = (float(*)[QUERIES])(acc + s.lanes * QUERIES);
    pack_along(k, rows_from(h->k, low), high - low, &s);
    pack_across(v, rows_from(h->v, low), high - low, &s);
    for (int64_t q0 = from; q0 < to; q0 += QUERIES) {
        const int64_t n = least(QUERIES, to - q0), p0 = h->first + q0;
        float max[QUERIES], sum[QUERIES] = {0};
        for (int q = 0; q < QUERIES; q++) max[q] = -1e30f;
        memset(acc, 0, (size_t)(s.lanes * QUERIES) * sizeof *acc);
        pack_turned(turned, rows_from(h->q, q0), n, &s);
        for (int64_t s0 = first_tile(a, p0); s0 < p0 + n; s0 += KEYS) {
            const Tile t = {.a = a,
                            .p0 = p0,
                            .s0 = s0,
                            .keys = least(KEYS, p0 + n - s0),
                            .drop0 = h->drop0 + (uint64_t)q0 * h->drop_step,
                            .drop_step = h->drop_step};
            tile_scores(scores, k + (s0 - low) * s.words, turned, &t, &s);
            scale_scores(scores, &t);
            tile_mask(scores, &t, -INFINITY);
            raise_maximum(max, sum, acc, scores, &t, &s);
            exponentials(scores, max, sum, &t);
            if (a->drop.p > 0) drop_probabilities(scores, &t);
            tile_across(p, scores, t.keys, &s);
            tile_to_queries(acc, p, v + (s0 - low) / s.per * s.lanes, &t, &s);
        }
        for (int q = 0; q < n; q++) {
            float *row = acc + q * s.lanes;
            for (int c = 0; c < s.HS; c++) row[c] /= sum[q];
            row_store(h->out.t, h->out.at + (q0 + q) * h->out.step, row, s.HS);
            if (h->lse) h->lse[q0 + q] = max[q] + logf(sum[q]);
        }
    }
}

/* One head of qkv [B, T, 3, NH, HS] (which: 0 q, 1 k, 2 v) and of out [B, T, NH, HS]. */
static Rows rows_of_qkv(Tensor qkv, const Attention *a, int64_t b, int64_t h, int which) {
    const int64_t C = (int64_t)a->NH * a->HS;
    return (Rows){qkv, b * a->T * 3 * C + which * C + h * a->HS, 3 * C};
}
static Rows rows_of_out(Tensor out, const Attention *a, int64_t b, int64_t h) {
    const int64_t C = (int64_t)a->NH * a->HS;
    return (Rows){out, b * a->T * C + h * a->HS, C};
}

/* The dropout's numbering: of (b, h, t 0, s 0), and from one t to the next. */
static uint64_t drop_step(const Attention *a) {
    return (uint64_t)round_up(a->T, 4);
}
static uint64_t drop_start(const Attention *a, int64_t b, int64_t h) {
    const uint64_t T = (uint64_t)a->T, sequence = a->drop.row0 / T + (uint64_t)b;
    return (sequence * (uint64_t)a->NH_total + (uint64_t)(a->head0 + h)) * T * drop_step(a);
}

void cpu_attention_forward(Tensor out, float *lse, Tensor qkv, const Attention *a) {
    const int64_t T = a->T, some = 4 * QUERIES, parts = (T + some - 1) / some;
#pragma omp parallel for collapse(3) schedule(dynamic)
    for (int64_t part = parts - 1; part >= 0; part--) /* the longest first */
        for (int64_t b = 0; b < a->B; b++)
            for (int64_t h = 0; h < a->NH; h++) {
                const Head head = {.q = rows_of_qkv(qkv, a, b, h, 0),
                                   .k = rows_of_qkv(qkv, a, b, h, 1),
                                   .v = rows_of_qkv(qkv, a, b, h, 2),
                                   .out = rows_of_out(out, a, b, h),
                                   .lse = lse + (b * a->NH + h) * T,
                                   .queries = T,
                                   .drop0 = drop_start(a, b, h),
                                   .drop_step = drop_step(a)};
                forward_queries(&head, a, part * some, least(T, (part + 1) * some));
            }
}

/* ---- backward -------------------------------------------------------------------------------------------- */

/* One head's operands and sums, in scratch. A tile of queries stands at its number times the size of one. */
typedef struct Backward {
    uint32_t *q_turned, *o_turned;       /* [tiles][words][QUERIES]: Q and dO */
    uint32_t *q_across, *o_across;       /* [T / per][lanes] */
    uint32_t *k, *v, *k_across;          /* one tile of keys */
    uint32_t *p_rows, *ds_rows;          /* [KEYS][QUERIES / per]: words along queries */
    uint32_t *ds_across;                 /* [KEYS / per][QUERIES]: words across keys */
    float *dq;                           /* [T rounded up to tiles][lanes] */
    float *dk, *dv;                      /* [KEYS][lanes] */
    float *lse, *D;                      /* [T rounded up to tiles] */
    float (*p)[QUERIES], (*dp)[QUERIES]; /* [KEYS + 1] */
} Backward;

/* Takes the pieces of scratch from one block, or, with base NULL, only counts: returns the words needed. */
static int64_t backward_layout(Backward *w, uint32_t *base, int64_t T, const Shape *s) {
    const int64_t tiles = (T + QUERIES - 1) / QUERIES, padded = tiles * QUERIES;
    int64_t used = 0;
#define TAKE(member, n) (w->member = (void *)(base + used), used += round_up(n, 16))
    TAKE(q_turned, tiles * s->words * QUERIES);
    TAKE(o_turned, tiles * s->words * QUERIES);
    TAKE(q_across, across_words(s, padded));
    TAKE(o_across, across_words(s, padded));
    TAKE(k, along_words(s, KEYS));
    TAKE(v, along_words(s, KEYS));
    TAKE(k_across, across_words(s, KEYS));
    TAKE(p_rows, KEYS * QUERIES);
    TAKE(ds_rows, KEYS * QUERIES);
    TAKE(ds_across, (KEYS + 1) * QUERIES);
    TAKE(dq, padded * s->lanes);
    TAKE(dk, KEYS * s->lanes);
    TAKE(dv, KEYS * s->lanes);
    TAKE(lse, padded);
    TAKE(D, padded);
    TAKE(p, (KEYS + 1) * QUERIES);
    TAKE(dp, (KEYS + 1) * QUERIES);
#undef TAKE
    return used;
}

/* The queries' side: Q and dO both ways, lse, and D. Queries beyond T get lse = inf, so p = 0. */
static void backward_pack(Backward *w, Rows q, Rows dout, Rows out, const float *lse, int64_t T,
                          const Shape *s) {
    float o[s->lanes], d[s->lanes];
    for (int64_t q0 = 0; q0 < T; q0 += QUERIES) {
        const int64_t at = q0 * s->words, n = least(QUERIES, T - q0);
        pack_turned(w->q_turned + at, rows_from(q, q0), n, s);
        pack_turned(w->o_turned + at, rows_from(dout, q0), n, s);
        for (int64_t t = q0; t < q0 + QUERIES; t++) {
            float sum = 0;
            w->lse[t] = t < T ? lse[t] : INFINITY;
            if (t < T) {
                row_load(o, out.t, out.at + t * out.step, s->HS);
                row_load(d, dout.t, dout.at + t * dout.step, s->HS);
#pragma omp simd reduction(+ : sum)
                for (int c = 0; c < s->HS; c++) sum += o[c] * d[c];
            }
            w->D[t] = sum;
        }
    }
    const int64_t padded = round_up(T, QUERIES);
    memset(w->q_across, 0, (size_t)across_words(s, padded) * sizeof *w->q_across);
    memset(w->o_across, 0, (size_t)across_words(s, padded) * sizeof *w->o_across);
    pack_across(w->q_across, q, T, s);
    pack_across(w->o_across, dout, T, s);
}

/* dst [keys][QUERIES / per]: the tile's rows as words along the queries. */
static void tile_along(uint32_t *dst, float (*p)[QUERIES], int64_t keys, const Shape *s) {
    const Tensor rows = tensor(dst, s->d);
    for (int64_t i = 0; i < keys; i++) row_store(rows, i * QUERIES, p[i], QUERIES);
}

/* c [keys][lanes] += the tile (words along queries) times rows of `right`, from the first query that sees a key on. */
static void tile_to_keys(float *c, const uint32_t *tile, const uint32_t *right, const Tile *t,
                         const Shape *s) {
    const int64_t wide = QUERIES / s->per;
    for (int64_t i = 0, n; i < t->keys; i += n) {
        const int64_t q = first_query(t, i) / s->per;
        n = t->s0 + t->keys - 1 <= t->p0 ? t->keys : least(STEP, t->keys - i);
        cpu_product(&(Product){.c = c + i * s->lanes,
                               .c_row = s->lanes,
                               .a = tile + i * wide + q,
                               .a_row = wide,
                               .a_step = 1,
                               .b = right + q * s->lanes,
                               .b_step = s->lanes,
                               .steps = wide - q,
                               .rows = n,
                               .cols = s->lanes,
                               .add = true},
                    s->d);
    }
}

/* p from the scores and dp from its product: p becomes the dropped-out probabilities, dp the scores' gradient. */
static void tile_gradient(float (*p)[QUERIES], float (*dp)[QUERIES], const float *lse, const float *D,
                          const Tile *t) {
    const float scale = t->a->scale;
    for (int64_t i = 0; i < t->keys; i++)
        for (int q = 0; q < QUERIES; q++) p[i][q] = exp_fast(scale * p[i][q] - lse[q]);
    tile_mask(p, t, 0);
    tile_mask(dp, t, 0);
    if (t->a->drop.p > 0) {
        float f[KEYS][QUERIES];
        tile_dropout(f, t);
        for (int64_t i = 0; i < t->keys; i++)
            for (int q = 0; q < QUERIES; q++) {
                dp[i][q] = scale * p[i][q] * (dp[i][q] * f[i][q] - D[q]);
                p[i][q] *= f[i][q];
            }
    } else {
        for (int64_t i = 0; i < t->keys; i++)
            for (int q = 0; q < QUERIES; q++) dp[i][q] = scale * p[i][q] * (dp[i][q] - D[q]);
    }
}

static void backward_tile(Backward *w, int64_t q0, const Tile *t, const Shape *s) {
    tile_scores(w->p, w->k, w->q_turned + q0 * s->words, t, s);
    tile_scores(w->dp, w->v, w->o_turned + q0 * s->words, t, s);
    tile_gradient(w->p, w->dp, w->lse + q0, w->D + q0, t);
    tile_along(w->p_rows, w->p, t->keys, s);
    tile_along(w->ds_rows, w->dp, t->keys, s);
    tile_across(w->ds_across, w->dp, t->keys, s);
    tile_to_keys(w->dv, w->p_rows, w->o_across + q0 / s->per * s->lanes, t, s);
    tile_to_keys(w->dk, w->ds_rows, w->q_across + q0 / s->per * s->lanes, t, s);
    tile_to_queries(w->dq + q0 * s->lanes, w->ds_across, w->k_across, t, s);
}

static void store_rows(Rows r, const float *x, int64_t n, const Shape *s) {
    for (int64_t t = 0; t < n; t++) row_store(r.t, r.at + t * r.step, x + t * s->lanes, s->HS);
}

static void backward_head(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                          const Attention *a, int64_t b, int64_t h) {
    const Shape s = shape_of(a, qkv.dtype);
    const int64_t T = a->T;
    Backward w;
    uint32_t *base = cpu_scratch((size_t)backward_layout(&w, NULL, T, &s) * sizeof *base);
    backward_layout(&w, base, T, &s);
    backward_pack(&w, rows_of_qkv(qkv, a, b, h, 0), rows_of_out(dout, a, b, h), rows_of_out(out, a, b, h),
                  lse, T, &s);
    memset(w.dq, 0, (size_t)(round_up(T, QUERIES) * s.lanes) * sizeof *w.dq);
    for (int64_t s0 = 0; s0 < T; s0 += KEYS) {
        const int64_t keys = least(KEYS, T - s0), last = a->window ? least(T, s0 + keys + a->window - 1) : T;
        pack_along(w.k, rows_from(rows_of_qkv(qkv, a, b, h, 1), s0), keys, &s);
        pack_along(w.v, rows_from(rows_of_qkv(qkv, a, b, h, 2), s0), keys, &s);
        pack_across(w.k_across, rows_from(rows_of_qkv(qkv, a, b, h, 1), s0), keys, &s);
        memset(w.dk, 0, (size_t)(KEYS * s.lanes) * sizeof *w.dk);
        memset(w.dv, 0, (size_t)(KEYS * s.lanes) * sizeof *w.dv);
        for (int64_t q0 = s0 / QUERIES * QUERIES; q0 < last; q0 += QUERIES) {
            const Tile t = {.a = a,
                            .p0 = q0,
                            .s0 = s0,
                            .keys = keys,
                            .drop0 = drop_start(a, b, h) + (uint64_t)q0 * drop_step(a),
                            .drop_step = drop_step(a)};
            backward_tile(&w, q0, &t, &s);
        }
        store_rows(rows_from(rows_of_qkv(dqkv, a, b, h, 1), s0), w.dk, keys, &s);
        store_rows(rows_from(rows_of_qkv(dqkv, a, b, h, 2), s0), w.dv, keys, &s);
    }
    store_rows(rows_of_qkv(dqkv, a, b, h, 0), w.dq, T, &s);
}

void cpu_attention_backward(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                            const Attention *a) {
    CHECK(dout.dtype == qkv.dtype, "attention's gradient must have its input's dtype");
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->NH; h++)
            backward_head(dqkv, dout, out, qkv, lse + (b * a->NH + h) * a->T, a, b, h);
}

/* ---- serving --------------------------------------------------------------------------------------------- */

/* The sums of one query over the keys of a tile. */
typedef struct One {
    float *scores, *acc; /* [KEYS + 1], [lanes] */
    uint32_t *q, *p;     /* words along HS; along the keys */
    uint32_t *turned;    /* [words][KEYS]: K turned over, for a query's scores lie in a row here */
    uint32_t *across;    /* [KEYS / per][lanes]: V */
    float max, sum;
} One;

/* scores becomes exp(scores - max) of n keys, the first `masked` of them 0; max is raised as in raise_maximum. */
static void one_softmax(One *o, int64_t n, int64_t masked, float scale, const Shape *s) {
    float top = o->max;
    for (int64_t i = 0; i < n; i++) o->scores[i] = i < masked ? -INFINITY : o->scores[i] * scale;
    for (int64_t i = 0; i < n; i++) top = o->scores[i] > top ? o->scores[i] : top;
    if (top > o->max + NEAR) raise_one(&o->max, &o->sum, o->acc, top, s->lanes);
    for (int64_t i = 0; i < n; i++) o->scores[i] = exp_fast(o->scores[i] - o->max);
    for (int64_t i = 0; i < n; i++) o->sum += o->scores[i];
    o->scores[n] = 0;
}

static void one_tile(One *o, Rows k, Rows v, int64_t n, int64_t masked, float scale, const Shape *s) {
    pack_turned(o->turned, k, n, s);
    pack_across(o->across, v, n, s);
    cpu_product(&(Product){.c = o->scores,
                           .c_row = KEYS,
                           .a = o->q,
                           .a_row = s->words,
                           .a_step = 1,
                           .b = o->turned,
                           .b_step = QUERIES,
                           .steps = s->words,
                           .rows = 1,
                           .cols = round_up(n, LANES)},
                s->d);
    one_softmax(o, n, masked, scale, s);
    row_store(tensor(o->p, s->d), 0, o->scores, round_up(n, s->per));
    cpu_product(&(Product){.c = o->acc,
                           .c_row = s->lanes,
                           .a = o->p,
                           .a_row = KEYS,
                           .a_step = 1,
                           .b = o->across,
                           .b_step = s->lanes,
                           .steps = (n + s->per - 1) / s->per,
                           .rows = 1,
                           .cols = s->lanes,
                           .add = true},
                s->d);
}

/* One query over the keys that it sees, with the arithmetic of forward_queries: a token decoded over the cache is, bit
 * for bit, the token of a pass over the whole sequence. */
static void attend_one(Rows q, Rows k, Rows v, Rows out, int64_t position, const Attention *a) {
    const Shape s = shape_of(a, k.t.dtype);
    uint32_t *base = cpu_scratch(
        (size_t)(along_words(&s, 1) + across_words(&s, KEYS) + s.words * QUERIES + s.lanes + 3 * KEYS) *
        sizeof *base);
    One o = {.q = base, .max = -1e30f};
    o.across = o.q + along_words(&s, 1);
    o.turned = o.across + across_words(&s, KEYS);
    o.acc = (float *)(o.turned + s.words * QUERIES);
    o.p = (uint32_t *)(o.acc + s.lanes);
    o.scores = (float *)(o.p + KEYS);
    memset(o.acc, 0, (size_t)s.lanes * sizeof *o.acc);
    pack_along(o.q, q, 1, &s);
    for (int64_t s0 = first_tile(a, position); s0 <= position; s0 += KEYS)
        one_tile(&o, rows_from(k, s0), rows_from(v, s0), least(KEYS, position + 1 - s0),
                 first_key(a, position) - s0, a->scale, &s);
    for (int c = 0; c < s.HS; c++) o.acc[c] /= o.sum;
    row_store(out.t, out.at, o.acc, s.HS);
}

/* Tokens i .. of the list that continue each other in one slot. */
static int64_t run_length(const int32_t *slot, const int32_t *pos, int64_t i, int64_t n) {
    int64_t end = i + 1;
    while (end < n && end < i + 4 * QUERIES && slot[end] == slot[i] && pos[end] == pos[end - 1] + 1) end++;
    return end - i;
}

/* The n keys (which 1) or values (2) of qkv to their places. */
static void store_cache(Tensor cache, Tensor qkv, int which, int64_t capacity, const int32_t *slot,
                        const int32_t *pos, int64_t n, const Attention *a) {
    const int64_t HS = a->HS, NH = a->NH;
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t i = 0; i < n; i++)
        for (int64_t h = 0; h < NH; h++)
            memcpy(tensor_at(cache, ((slot[i] * NH + h) * capacity + pos[i]) * HS).p,
                   tensor_at(qkv, ((i * 3 + which) * NH + h) * HS).p, (size_t)HS * dtype_size(cache.dtype));
}

void cpu_attention_cached(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity, const int32_t *slot,
                          const int32_t *pos, int64_t n, const Attention *a) {
    enum { SHORT = 8 }; /* fewer queries than this are taken one by one */
    const int64_t HS = a->HS, NH = a->NH, C = NH * HS;
    CHECK(k.dtype == qkv.dtype && v.dtype == qkv.dtype, "the cache must have the activations' dtype");
    store_cache(k, qkv, 1, capacity, slot, pos, n, a);
    store_cache(v, qkv, 2, capacity, slot, pos, n, a);
#pragma omp parallel
    for (int64_t i = 0, len; i < n; i += len) {
        len = run_length(slot, pos, i, n);
#pragma omp for schedule(dynamic) nowait
        for (int64_t h = 0; h < NH; h++) {
            const int64_t base = (slot[i] * NH + h) * capacity * HS;
            const Head head = {.q = {qkv, i * 3 * C + h * HS, 3 * C},
                               .k = {k, base, HS},
                               .v = {v, base, HS},
                               .out = {out, i * C + h * HS, C},
                               .first = pos[i],
                               .queries = len};
            if (len >= SHORT)
                forward_queries(&head, a, 0, len);
            else
                for (int64_t j = 0; j < len; j++)
                    attend_one(rows_from(head.q, j), head.k, head.v, rows_from(head.out, j), pos[i] + j, a);
        }
    }
}
