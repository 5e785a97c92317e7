/* params.c - floor 3: the parameter table of gpt.h, and who has what of it. */
#include "params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the whole model ------------------------------------------------------------------------------------- */

typedef enum { NONE, VOCAB, POSITIONS, WIDTH, WIDTH3, INNER } Dim;

/* The Conv1D matrices of Hugging Face's GPT-2 are [in, out]. */
static const struct {
    const char *name; /* within its layer */
    Dim shape[2];
    Init init;
    Split split;
    bool residual; /* writes into the residual stream */
} roles[N_ROLES] = {
    [WTE] = {"wte.weight", {VOCAB, WIDTH}, INIT_NORMAL, SPLIT_VOCAB, false},
    [WPE] = {"wpe.weight", {POSITIONS, WIDTH}, INIT_NORMAL, SPLIT_NONE, false},
    [LN1_W] = {"ln_1.weight", {WIDTH}, INIT_ONE, SPLIT_NONE, false},
    [LN1_B] = {"ln_1.bias", {WIDTH}, INIT_ZERO, SPLIT_NONE, false},
    [QKV_W] = {"attn.c_attn.weight", {WIDTH, WIDTH3}, INIT_NORMAL, SPLIT_COLUMNS, false},
    [QKV_B] = {"attn.c_attn.bias", {WIDTH3}, INIT_ZERO, SPLIT_COLUMNS, false},
    [OUT_W] = {"attn.c_proj.weight", {WIDTH, WIDTH}, INIT_NORMAL, SPLIT_ROWS, true},
    [OUT_B] = {"attn.c_proj.bias", {WIDTH}, INIT_ZERO, SPLIT_NONE, false},
    [LN2_W] = {"ln_2.weight", {WIDTH}, INIT_ONE, SPLIT_NONE, false},
    [LN2_B] = {"ln_2.bias", {WIDTH}, INIT_ZERO, SPLIT_NONE, false},
    [FC_W] = {"mlp.c_fc.weight", {WIDTH, INNER}, INIT_NORMAL, SPLIT_COLUMNS, false},
    [FC_B] = {"mlp.c_fc.bias", {INNER}, INIT_ZERO, SPLIT_COLUMNS, false},
    [DOWN_W] = {"mlp.c_proj.weight", {INNER, WIDTH}, INIT_NORMAL, SPLIT_ROWS, true},
    [DOWN_B] = {"mlp.c_proj.bias", {WIDTH}, INIT_ZERO, SPLIT_NONE, false},
    [LNF_W] = {"ln_f.weight", {WIDTH}, INIT_ONE, SPLIT_NONE, false},
    [LNF_B] = {"ln_f.bias", {WIDTH}, INIT_ZERO, SPLIT_NONE, false},
    [HEAD_W] = {"lm_head.weight", {VOCAB, WIDTH}, INIT_NORMAL, SPLIT_VOCAB, false},
};

static bool role_is_in(const ModelConfig *c, int role) {
    if (role == HEAD_W) return !c->tie_word_embeddings;
    return !is_post_norm(c) || (role != LNF_W && role != LNF_B);
}

static int64_t dim_size(const ModelConfig *c, Dim d) {
    switch (d) {
    case VOCAB: return c->vocab_size;
    case POSITIONS: return c->n_positions;
    case WIDTH: return c->n_embd;
    case WIDTH3: return 3 * c->n_embd;
    case INNER: return model_inner(c);
    case NONE: break;
    }
    return 1;
}

/* GPT-2 draws the matrices that write into the stream smaller, so that the sum of 2L of them keeps its size
 * (Radford et al. 2019, section 2.3). */
static double init_std(const ModelConfig *c, int role) {
    bool smaller = roles[role].residual && !is_post_norm(c);
    return c->initializer_range / (smaller ? sqrt(2.0 * (double)c->n_layer) : 1);
}

static Param param_make(const ModelConfig *c, int layer, int role) {
    Param p = {.role = role, .layer = layer, .init = roles[role].init, .split = roles[role].split};
    const char *name = roles[role].name;
    if (is_post_norm(c) && role == WTE) name = "tokens_embed.weight";
    if (is_post_norm(c) && role == WPE) name = "positions_embed.weight";
    bool inside = layer >= 0 && layer < c->n_layer;
    snprintf(p.name, sizeof p.name, inside ? "h.%2$d.%1$s" : "%s", name, layer);
    p.rank = roles[role].shape[1] == NONE ? 1 : 2;
    for (int d = 0; d < 2; d++) p.shape[d] = dim_size(c, roles[role].shape[d]);
    p.count = p.shape[0] * p.shape[1];
    if (p.init == INIT_NORMAL) p.std = (float)init_std(c, role);
    p.decay = p.rank == 2;
    if (inside && p.rank == 2) p.parts = roles[role].shape[1] == WIDTH3 ? 3 : 1;
    return p;
}

GptOptions options_full(const GptOptions *given) {
    GptOptions o = given ? *given : (GptOptions){0};
    if (!o.grid.ranks) o.grid = GRID_OF_ONE;
    if (o.interleave < 1) o.interleave = 1;
    if (o.micro_steps < 1) o.micro_steps = 1;
    if (!o.bucket_bytes) o.bucket_bytes = 25 << 20;
    return o;
}

/* ---- a rank's part --------------------------------------------------------------------------------------- */

int64_t vocab_rows(const ModelConfig *c, int tp) {
    return round_up(c->vocab_size, VOCAB_MULTIPLE * tp) / tp;
}

/* Which part of p this rank has. Columns are those of its heads in each of q, k and v. */
static void param_split(Param *p, const Grid *g) {
    const int64_t columns = p->shape[p->rank - 1];
    p->outer = 1;
    p->inner = p->pitch = p->count;
    if (p->split == SPLIT_COLUMNS) {
        const int64_t sides = roles[p->role].shape[p->rank - 1] == WIDTH3 ? 3 : 1;
        p->pitch = columns / sides;
        p->outer = p->count / p->pitch;
    }
    if (p->split == SPLIT_COLUMNS || p->split == SPLIT_ROWS)
        p->inner = p->pitch / g->tp, p->first = g->tp_rank * p->inner;
    p->padded = p->outer * p->inner;
    if (p->split != SPLIT_VOCAB) return;
    const int64_t rows = round_up(p->shape[0], VOCAB_MULTIPLE * g->tp) / g->tp, V = p->shape[0];
    const int64_t from = between(g->tp_rank * rows, 0, V), to = between(from + rows, 0, V);
    p->first = from * columns;
    p->inner = (to - from) * columns;
    p->padded = rows * columns;
}

void gpt_stage(const ModelConfig *c, int n, int k, int *from, int *to) {
    const int L = (int)c->n_layer, others = n - 1;
    const double C = (double)c->n_embd, head = (double)c->vocab_size / (4 * C + 2 * (double)model_inner(c));
    double least = INFINITY;
    int last = L;
    for (int b = 1; others && b <= L - others; b++) { /* layers on the last part, beside the head */
        const double cost = fmax(b + head, (L - b + others - 1) / others);
        if (cost <= least) least = cost, last = b;
    }
    const int each = others ? (L - last) / others : 0, more = others ? (L - last) % others : 0;
    const int extra_before = k - (others - more); /* of the others, the latter ones have one more */
    *from = k < others ? k * each + (extra_before > 0 ? extra_before : 0) : L - last;
    *to = k < others ? *from + each + (extra_before >= 0) : L;
}

/* The chunk of this rank that layer l belongs to; -1 if none. The embedding goes with the first layer, the norm and the
 * head after the layers with the last. */
static int chunk_with(const ModelConfig *c, const GptOptions *o, int layer) {
    const int n = o->grid.pp * o->interleave, l = (int)between(layer, 0, c->n_layer - 1);
    for (int i = 0, from, to; i < o->interleave; i++) {
        gpt_stage(c, n, i * o->grid.pp + o->grid.pp_rank, &from, &to);
        if (l >= from && l < to) return i;
    }
    return -1;
}

int sweep_of(const Param *p) {
    if (p->parts) return MATRICES;
    if (p->decay) return p->split == SPLIT_VOCAB ? VOCAB_ROWS : POSITION_ROWS;
    if (p->split == SPLIT_COLUMNS) return SLICED_BIASES;
    return p->role == OUT_B || p->role == DOWN_B ? BIASES : NORMS;
}

int half_of(const Param *p) {
    return 2 * p->layer + (p->role >= MLP_ROLES);
}

/* Places the rows. Gradients are reduced by buckets: the matrices of a few halves of layers each, and, in the first, all
 * else. A bucket can be cut into equal parts for the ranks of the data group. */
static int64_t place(Param *table, int n, const ModelConfig *c, const GptOptions *o) {
    const int64_t align = (int64_t)PARAM_ALIGN * o->grid.dp;
    int64_t at = 0, begun = 0;
    int bucket = 0, half = -1;
    for (int sweep = 0; sweep < N_SWEEPS; sweep++)
        for (Param *p = table; p < table + n; p++) {
            if (sweep_of(p) != sweep) continue;
            const bool next_half = sweep == MATRICES && half_of(p) != half;
            if (next_half && (bucket == 0 || (at - begun) * 4 >= o->bucket_bytes ||
                              chunk_with(c, o, half / 2) != chunk_with(c, o, p->layer)))
                begun = at = round_up(at, align), bucket++;
            if (sweep == MATRICES) half = half_of(p);
            p->bucket = bucket;
            p->at = at;
            at += round_up(p->padded, PARAM_ALIGN);
        }
    return round_up(at, align);
}

Param *gpt_params(const ModelConfig *c, const GptOptions *options, int *n, int64_t *elements) {
    static const int parts[] = {WTE, LAYER_ROLES, LAST_ROLES, N_ROLES};
    const GptOptions o = options_full(options);
    int L = (int)c->n_layer, all = 0;
    Param *table = xcalloc((size_t)(L + 1) * N_ROLES, sizeof *table);
    *n = 0;
    for (int layer = -1; layer <= L; layer++) {
        int part = layer < 0 ? 0 : layer < L ? 1 : 2;
        const bool own = chunk_with(c, &o, layer) >= 0;
        for (int role = parts[part]; role < parts[part + 1]; role++) {
            if (!role_is_in(c, role)) continue;
            const int row = all++;
            const bool copy = !own && role == WTE && c->tie_word_embeddings && is_last_stage(&o.grid);
            if (!own && !copy) continue;
            Param p = param_make(c, layer, role);
            p.row = row, p.copy = copy;
            param_split(&p, &o.grid);
            table[(*n)++] = p;
        }
    }
    *elements = place(table, *n, c, &o);
    return table;
}

int64_t gpt_count(const ModelConfig *c, bool with_positions) {
    int n;
    int64_t elements, sum = 0;
    Param *table = gpt_params(c, NULL, &n, &elements);
    for (int i = 0; i < n; i++)
        if (with_positions || table[i].role != WPE) sum += table[i].count;
    free(table);
    return sum;
}

double gpt_flops_per_token(const ModelConfig *c, int64_t T) {
    return 6.0 * (double)gpt_count(c, false) + 6.0 * (double)(c->n_layer * c->n_embd * T);
}

void str_divisors(Str *s, int64_t a, int64_t b) {
    int64_t last = 0, n = 0;
    for (int64_t d = 1; d <= a; d++)
        if (a % d == 0 && b % d == 0) last = d;
    for (int64_t d = 1; d <= last; d++)
        if (a % d == 0 && b % d == 0)
            str_printf(s, "%s%lld", !n++ ? "" : d == last ? " or " : ", ", (long long)d);
}

bool gpt_grid_check(const ModelConfig *c, const GptOptions *given, Err *e) {
    const GptOptions o = options_full(given);
    const int64_t tp = o.grid.tp, parts = (int64_t)o.grid.pp * o.interleave;
    Str s = {0};
    bool ok = true;
    if (c->n_head % tp || model_inner(c) % tp) {
        str_divisors(&s, c->n_head, model_inner(c));
        ok = err_usage(
            e, "config: parallel.tensor=%lld does not divide %lld heads and %lld hidden units; it can be %s",
            (long long)tp, (long long)c->n_head, (long long)model_inner(c), s.p);
    } else if (parts > c->n_layer)
        ok = err_usage(
            e,
            "config: %lld layers cannot be cut into %d stages of %d chunks; parallel.pipeline times "
            "parallel.interleave is at most %lld",
            (long long)c->n_layer, o.grid.pp, o.interleave, (long long)c->n_layer);
    else if (o.interleave > 1 && o.grid.pp == 1)
        ok = err_usage(e, "config: parallel.interleave=%d needs parallel.pipeline above 1", o.interleave);
    else if (o.interleave > 1 && o.micro_steps % o.grid.pp)
        ok = err_usage(
            e,
            "config: parallel.interleave needs the micro steps of a step, %lld here, to be a multiple of "
            "parallel.pipeline=%d; change train.global_batch_size or train.micro_batch_size",
            (long long)o.micro_steps, o.grid.pp);
    else if (o.sequence_parallel && o.T % tp)
        ok = err_usage(
            e, "config: parallel.sequence_parallel needs parallel.tensor=%lld to divide train.seq_len=%d",
            (long long)tp, o.T);
    str_free(&s);
    return ok;
}
