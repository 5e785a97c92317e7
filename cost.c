/* cost.c - floor 4: see cost.h. */
#include "cost.h"

#include "schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GB  1e9
#define TF  1e12
#define MIB 1048576.0

/* NVIDIA's data sheets, in SXM form where there is one. Network: the usual node of eight (DGX: one 200 Gb/s adapter a
 * GPU beside A100, 400 Gb/s later; cards in PCIe slots share one of 400). What products reach: A100 Bekman's
 * "maximum achievable matmul FLOPS" (ml-engineering, 2025: 271 TFLOP/s); H100 and H200, which find 794 there at the best of all
 * shapes and slow down for their power limit, 720 at shapes of training (SemiAnalysis, "MI300X vs H100 vs H200", 2024).
 * Attention: Dao 2023, figures 4 and 7 (A100 and H100, head size 128, 2k). Both for the others by the share of a relative. */
/* clang-format off */
static const Gpu gpus[] = {
    {"a100-40",   "A100 SXM 40 GB",         40960 * MIB, 108, false,  312 * TF,  271 * TF, 19.5 * TF, 165 * TF, 1555 * GB, 300 * GB, 8, 25 * GB},
    {"a100",      "A100 SXM 80 GB",         81920 * MIB, 108, false,  312 * TF,  271 * TF, 19.5 * TF, 165 * TF, 2039 * GB, 300 * GB, 8, 25 * GB},
    {"h100-pcie", "H100 PCIe 80 GB",        81559 * MIB, 114, true,  756 * TF,  550 * TF,   51 * TF, 203 * TF, 2000 * GB,  64 * GB, 8, 6.25 * GB},
    {"h100",      "H100 SXM 80 GB",         81559 * MIB, 132, true,  989 * TF,  720 * TF,   67 * TF, 265 * TF, 3350 * GB, 450 * GB, 8, 50 * GB},
    {"h200",      "H200 SXM 141 GB",       143771 * MIB, 132, true,  989 * TF,  720 * TF,   67 * TF, 265 * TF, 4800 * GB, 450 * GB, 8, 50 * GB},
    {"b200",      "B200 180 GB",           183359 * MIB, 148, true, 2250 * TF, 1638 * TF,   75 * TF, 600 * TF, 8000 * GB, 900 * GB, 8, 50 * GB},
    {"l40s",      "L40S 48 GB",             46068 * MIB, 142, true,  362 * TF,  314 * TF, 91.6 * TF, 190 * TF,  864 * GB,  32 * GB, 8, 6.25 * GB},
    {"rtx4090",   "GeForce RTX 4090 24 GB", 24564 * MIB, 128, true,  165 * TF,  143 * TF, 82.6 * TF,  87 * TF, 1008 * GB,  32 * GB, 8, 6.25 * GB},
    {"rtx3090",   "GeForce RTX 3090 24 GB", 24576 * MIB, 82, false,   71 * TF,   62 * TF, 35.6 * TF,  37 * TF,  936 * GB,  32 * GB, 8, 6.25 * GB},
};
/* clang-format on */
enum { N_GPUS = sizeof gpus / sizeof *gpus };

const Gpu *gpu_find(const char *name, Err *e) {
    for (int i = 0; i < N_GPUS; i++)
        if (!strcmp(name, gpus[i].name)) return &gpus[i];
    Str all = {0};
    for (int i = 0; i < N_GPUS; i++) str_printf(&all, "%s%s", i ? ", " : "", gpus[i].name);
    err_usage(e, "unknown GPU \"%s\"; there are %s", name, all.p);
    str_free(&all);
    return NULL;
}

/* Norms read the stream and what is added to it, and write both sums; GELU is the end of a product, which then writes
 * what went into it too. */
const Habits gpt_habits = {.stream = {8, 10},
                           .hidden = {1, 1},
                           .logits = 3,
                           .optimizer = 34,
                           .gradient_size = 4,
                           .hides_data = true};

const char *const traffic_names[N_TRAFFIC] = {"tensor", "sequence", "pipeline", "data", "tied"};

/* ---- what a GPU does for a micro step --------------------------------------------------------------------
 * Seconds at the rates that are reached, and bytes that it sends to its tensor group. */

typedef struct Work {
    double flops, seconds, sent, messages;
} Work;

typedef struct Shape {
    const Job *j;
    Gpu at;            /* the rates that are reached */
    double n, r;       /* rows of a micro step, and those of the stream that a rank holds */
    double C, F, V, T; /* the whole model's */
    double t;          /* ranks that share a layer */
    double size;       /* bytes of an activation */
    double seen;       /* keys a query attends to, the mean over rows and layers */
} Shape;

static double least(double a, double b) {
    return a < b ? a : b;
}

/* Of one query among T, if it sees so many back (0: all). */
static double keys_seen(double T, double window) {
    if (window == 0 || window > T) window = T;
    return window - window * (window - 1) / (2 * T);
}

static double product_rate(const Gpu *g, Dtype compute) {
    switch (compute) {
    case DT_F32: return g->plain;
    case DT_TF32: return g->product / 2;
    case DT_F8: return g->product * 2;
    default: return g->product;
    }
}

static Shape shape_of(const Job *j) {
    const ModelConfig *c = j->model;
    const double T = j->o.T, n = (double)j->o.B * T, t = j->o.grid.tp;
    Gpu at = *j->gpu;
    at.product = product_rate(&at, j->o.compute) * j->efficiency;
    if (j->o.compute == DT_F32 || j->o.compute == DT_TF32) at.attention = at.product / 2;
    at.bandwidth *= j->efficiency, at.link *= j->efficiency, at.network *= j->efficiency;
    const bool banded = !strcmp(c->model_type, "gpt3");
    const double dense = keys_seen(T, 0), band = keys_seen(T, banded ? (double)c->attention_window : 0);
    return (Shape){.j = j,
                   .at = at,
                   .n = n,
                   .r = j->o.sequence_parallel ? n / t : n,
                   .C = (double)c->n_embd,
                   .F = (double)model_inner(c),
                   .V = (double)c->vocab_size,
                   .T = T,
                   .t = t,
                   .size = (double)dtype_size(dtype_of_tensors(j->o.compute)),
                   .seen = (dense + band) / 2};
}

static void add(Work *w, Work x, double times) {
    w->flops += times * x.flops, w->seconds += times * x.seconds;
    w->sent += times * x.sent, w->messages += times * x.messages;
}

/* So many elements are read or written. */
static void add_traffic(Work *w, const Shape *s, double elements) {
    w->seconds += elements * s->size / s->at.bandwidth;
}

/* Seconds to multiply [m, k] by [k, n]. A multiprocessor sums a tile of the result at a time, and the last round of tiles
 * is seldom full; where there are fewer tiles than multiprocessors, several share one's sums. */
static double product_seconds(const Shape *s, double m, double k, double n) {
    enum { TILE_M = 128, TILE_N = 256, TILE_K = 512 };
    const double units = s->j->gpu->units;
    double tiles = ceil(m / TILE_M) * ceil(n / TILE_N), share = 1;
    if (tiles < units) share = least(floor(units / tiles), ceil(k / TILE_K));
    const double rounds = ceil(tiles * share / units);
    return rounds * units / share * TILE_M * TILE_N * 2 * k / s->at.product;
}

/* Products that go with messages over the tensor group are made in pieces of rows, three at a time, as Transformer Engine
 * does it (initialize_ub): what waits for a share of each rank in as many pieces, what sends its sums in four. */
enum { WHOLE = 1, SENT = 4 };
static double pieces_seconds(const Shape *s, int pieces, double m, double k, double n) {
    enum { AT_ONCE = 3 };
    if (!s->j->habits->hides_tensor || s->t == 1) return product_seconds(s, m, k, n);
    double seconds = 0;
    for (int left = pieces; left > 0; left -= AT_ONCE)
        seconds += product_seconds(s, (left < AT_ONCE ? left : AT_ONCE) * m / pieces, k, n);
    return seconds;
}

/* y [n, out] = x [n, in] W. Operands are loaded while earlier ones are multiplied; what is stored in the end, after the
 * sums, is not hidden, and weighs where few elements are summed. */
static void add_product(Work *w, const Shape *s, double n, double in, double out, int pieces) {
    w->flops += 2 * n * in * out;
    w->seconds += pieces_seconds(s, pieces, n, in, out);
    add_traffic(w, s, n * out);
}

/* dx = dy W^T, and dW += x^T dy in fp32. */
static void add_product_backward(Work *w, const Shape *s, double n, double in, double out, int pieces) {
    add_product(w, s, n, out, in, pieces);
    w->flops += 2 * n * in * out;
    w->seconds += product_seconds(s, in, n, out) + 2 * sizeof(float) * in * out / s->at.bandwidth;
}

/* A sum over the tensor group: all of it to all, or half of that, a share to each (or back). */
static void add_exchange(Work *w, const Shape *s, int halves) {
    if (s->t == 1) return;
    w->sent += halves * (s->t - 1) / s->t * s->n * s->C * s->size;
    w->messages += s->j->o.sequence_parallel ? halves : halves / 2.0;
}

static bool is_flash(const Shape *s) {
    return s->j->habits->scores[0] == 0;
}

/* `products` of [T, HS] with [HS, T] and the like for each head: two forward. */
static void add_attention(Work *w, const Shape *s, double products, double elements) {
    const double keys = is_flash(s) ? s->seen : s->T;
    const double flops = 2 * products * s->n * keys * s->C / s->t;
    w->flops += flops;
    w->seconds += flops / (is_flash(s) ? s->at.attention : s->at.product);
    add_traffic(w, s, elements * s->n * s->T * (double)s->j->model->n_head / s->t);
    add_traffic(w, s, 2 * products * s->n * s->C / s->t); /* q, k, v, their sum; and their gradients */
}

static Work layer_forward(const Shape *s, bool down) {
    const Habits *h = s->j->habits;
    Work w = {0};
    add_traffic(&w, s, h->stream[0] * s->r * s->C + h->hidden[0] * s->n * s->F / s->t);
    add_product(&w, s, s->n, s->C, 3 * s->C / s->t, (int)s->t);
    add_attention(&w, s, 2, h->scores[0]);
    add_product(&w, s, s->n, s->C / s->t, s->C, SENT);
    add_product(&w, s, s->n, s->C, s->F / s->t, (int)s->t);
    if (down) add_product(&w, s, s->n, s->F / s->t, s->C, SENT);
    /* Two sums; sequence parallel, two shares come together and two are summed apart. */
    add_exchange(&w, s, down ? 4 : s->j->o.sequence_parallel ? 3 : 2);
    return w;
}

static Work layer_backward(const Shape *s) {
    const Habits *h = s->j->habits;
    Work w = {0};
    add_traffic(&w, s, h->stream[1] * s->r * s->C + h->hidden[1] * s->n * s->F / s->t);
    add_product_backward(&w, s, s->n, s->C, 3 * s->C / s->t, WHOLE);
    add_product_backward(&w, s, s->n, s->C / s->t, s->C, (int)s->t);
    add_product_backward(&w, s, s->n, s->C, s->F / s->t, WHOLE);
    add_product_backward(&w, s, s->n, s->F / s->t, s->C, (int)s->t);
    add_attention(&w, s, is_flash(s) ? 5 : 4, h->scores[1]); /* FlashAttention makes the scores again */
    if (h->scores_again) add_attention(&w, s, 1, h->scores[2]);
    add_exchange(&w, s, s->j->o.sequence_parallel ? 6 : 4); /* operands come together once more, for dW */
    if (s->j->o.recompute == RECOMPUTE_BLOCK) add(&w, layer_forward(s, h->down_again), 1);
    if (s->j->o.recompute == RECOMPUTE_GELU) /* norms' outputs, and GELU's */
        add_traffic(&w, s, 4 * s->r * s->C + 2 * s->n * s->F / s->t);
    return w;
}

/* Reads rows in fp32, writes the stream; backward the other way, and adds. */
static Work embedding(const Shape *s) {
    Work w = {0};
    w.seconds = 5 * sizeof(float) * s->r * s->C / s->at.bandwidth;
    add_exchange(&w, s, 2);
    return w;
}

/* Logits, the loss, and backward, at once. */
static Work head(const Shape *s) {
    Work w = {0};
    add_product(&w, s, s->n, s->C, s->V / s->t, WHOLE);
    add_product_backward(&w, s, s->n, s->C, s->V / s->t, WHOLE);
    add_traffic(&w, s, s->j->habits->logits * s->n * s->V / s->t);
    add_exchange(&w, s, 2);
    if (s->t > 1) w.sent += (s->t - 1) * s->n * sizeof(ClassPart), w.messages++;
    return w;
}

/* ---- messages -------------------------------------------------------------------------------------------- */

#define LATENCY 10e-6 /* of a message, network and kernels together */

/* Does a node hold all of so many ranks that follow each other? */
static bool within_node(const Shape *s, int64_t ranks) {
    return s->j->o.grid.ranks <= s->at.node || s->at.node % ranks == 0;
}

/* Bytes a second that each of n ranks sends around, which stand `stride` ranks apart: within a node over its links, else
 * over as many of the node's adapters as it has of the ranks. */
static double group_rate(const Shape *s, int64_t n, int64_t stride) {
    const Gpu *g = &s->at;
    if (within_node(s, n * stride)) return g->link;
    const int64_t members = stride < g->node ? g->node / stride : 1;
    return least(g->link, (double)members * g->network);
}

static double message_seconds(double bytes, double rate, double messages, double ranks) {
    return bytes / rate + messages * LATENCY * ceil(log2(ranks));
}

/* Messages that go while the GPU computes cost it the multiprocessors that their kernels hold: 16, as NCCL's channels
 * between nodes of eight adapters and Transformer Engine's overlapped products have it (initialize_ub, num_sm). Seconds that
 * a step is longer by for so many hidden ones. */
static double held_up(const Shape *s, double hidden) {
    enum { HOLDS = 16 };
    return hidden * HOLDS / s->j->gpu->units;
}

/* Adds what a rank sends to its tensor group for this work; returns the seconds that it takes longer by. */
static double tensor_wait(const Shape *s, const Work *w, Traffic *t) {
    if (w->sent == 0) return 0;
    const double seconds = message_seconds(w->sent, group_rate(s, (int64_t)s->t, 1), w->messages, s->t);
    /* By pieces, while other pieces are multiplied; but of sums nothing is left to do while the last piece goes. */
    const double pieces = 2 * (s->t - 1);
    const double hidden = s->j->habits->hides_tensor ? least(seconds * (1 - 1 / pieces), w->seconds) : 0;
    const double exposed = seconds - hidden + held_up(s, hidden);
    t->bytes += w->sent, t->seconds += seconds, t->exposed += exposed;
    return exposed;
}

/* ---- the pipeline ---------------------------------------------------------------------------------------- */

/* When each task is done, by direction, part and micro step; NAN: not yet. */
typedef struct Play {
    int pp, parts;
    int64_t micros;
    double *done; /* [2, parts, micros] */
} Play;

static double *done_at(const Play *p, bool backward, int part, int64_t micro) {
    return &p->done[((int64_t)backward * p->parts + part) * p->micros + micro];
}

/* When its operand is there; NAN: not known yet. */
static double ready(const Play *p, const Task *t, int part, double hop) {
    const int from = part + (t->backward ? 1 : -1);
    if (from < 0 || from == p->parts) return 0;
    return *done_at(p, t->backward, from, t->micro) + (p->pp > 1 ? hop : 0);
}

double cost_pipeline(int pp, int chunks, int64_t micros, const double *forward, const double *backward,
                     double hop) {
    Play p = {pp, pp * chunks, micros, xmalloc(2 * (size_t)(pp * chunks * micros) * sizeof(double))};
    const int64_t tasks = 2 * chunks * micros;
    Task **order = xcalloc((size_t)pp, sizeof *order);
    int64_t *next = xcalloc((size_t)pp, sizeof *next), left = pp * tasks;
    double *clock = xcalloc((size_t)pp, sizeof *clock), last = 0;
    for (int64_t i = 0; i < 2 * p.parts * micros; i++) p.done[i] = NAN;
    for (int s = 0; s < pp; s++) order[s] = schedule_make(pp, s, chunks, micros);
    while (left > 0) {
        const int64_t before = left;
        for (int s = 0; s < pp; s++)
            for (; next[s] < tasks; next[s]++, left--) {
                const Task *t = &order[s][next[s]];
                const int part = t->chunk * pp + s;
                const double from = ready(&p, t, part, hop);
                if (isnan(from)) break;
                clock[s] = (from > clock[s] ? from : clock[s]) + (t->backward ? backward : forward)[part];
                *done_at(&p, t->backward, part, t->micro) = clock[s];
            }
        CHECK(left < before, "the schedule waits for itself");
    }
    for (int s = 0; s < pp; s++) last = clock[s] > last ? clock[s] : last, free(order[s]);
    free(p.done), free(order), free(next), free(clock);
    return last;
}

/* ---- a step ---------------------------------------------------------------------------------------------- */

static int chunks_of(const Job *j) {
    return j->o.interleave > 1 ? j->o.interleave : 1;
}

static int64_t micros_of(const Job *j) {
    return j->o.micro_steps ? j->o.micro_steps : 1;
}

/* What part k of the model holds and does. */
typedef struct Part {
    double layers, others; /* a tensor rank's weights: matrices inside the layers; all else */
    Work forward, backward;
} Part;

static Part part_of(const Shape *s, int parts, int k) {
    const ModelConfig *c = s->j->model;
    const bool first = k == 0, last = k == parts - 1;
    int from, to;
    gpt_stage(c, parts, k, &from, &to);
    const double layers = to - from, table = s->V * s->C / s->t;
    Part p = {.layers = layers * (4 * s->C * s->C + 2 * s->C * s->F) / s->t};
    if (first) p.others += table + (double)c->n_positions * s->C;
    if (last && !(first && c->tie_word_embeddings)) p.others += table;
    add(&p.forward, layer_forward(s, true), layers);
    add(&p.backward, layer_backward(s), layers);
    if (first) add(&p.forward, embedding(s), 1);
    if (last) add(&p.backward, head(s), 1);
    return p;
}

/* A stage: all of its parts. */
typedef struct Stage {
    double compute;        /* seconds a step */
    double layers, others; /* weights, as in Part */
    double backward;       /* seconds of a micro step's backward */
    Traffic tensor;        /* a step */
} Stage;

static double weights_of(const Stage *stage) {
    return stage->layers + stage->others;
}

/* Gradients of the layers go by buckets, of halves of layers, while the last micro step's backward makes others (ZeRO-2: each
 * micro step's), all but the last bucket of these; those of the rest follow. Then come the weights, of what has a mirror
 * only that. */
static Traffic data_traffic(const Shape *s, const Stage *stage) {
    const Job *j = s->j;
    const double ranks = j->o.grid.dp, rounds = j->o.zero == 2 ? (double)micros_of(j) : 1;
    if (ranks == 1) return (Traffic){0};
    const double rate = group_rate(s, j->o.grid.dp, j->o.grid.tp), half = (ranks - 1) / ranks;
    const double size = j->habits->gradient_size, ways = j->o.zero ? 1 : 2;
    const double half_layer = size * (4 * s->C * s->C + 2 * s->C * s->F) / s->t / 2;
    const double bucket = j->o.bucket_bytes ? (double)j->o.bucket_bytes : 25e6;
    const double buckets = fmax(1, floor(size * stage->layers / (half_layer * ceil(bucket / half_layer))));
    const double sums = half * ways * size * stage->layers, rest = half * ways * size * stage->others;
    const double sum = message_seconds(sums, rate, buckets, ranks),
                 last = message_seconds(rest, rate, 1, ranks);
    const double hidden = j->habits->hides_data ? least(sum * (1 - 1 / buckets), stage->backward) : 0;
    Traffic t = {.bytes = rounds * sums + rest,
                 .seconds = rounds * sum + last,
                 .exposed = rounds * (sum - hidden + held_up(s, hidden)) + last};
    if (!j->o.zero) return t;
    const double back = half * (s->size * stage->layers + (s->size < 4 ? s->size + 4 : 4) * stage->others);
    const double share = message_seconds(back, rate, buckets + 1, ranks);
    t.bytes += back, t.seconds += share, t.exposed += j->habits->hides_weights ? held_up(s, share) : share;
    return t;
}

/* The gradients of an embedding that two stages hold. */
static Traffic tied_traffic(const Shape *s) {
    const Job *j = s->j;
    if (j->o.grid.pp == 1 || !j->model->tie_word_embeddings) return (Traffic){0};
    const double bytes = s->V * s->C / s->t * j->habits->gradient_size;
    const double rate = group_rate(s, j->o.grid.pp, (int64_t)j->o.grid.dp * j->o.grid.tp);
    const double seconds = message_seconds(bytes, rate, 1, 2);
    return (Traffic){bytes, seconds, seconds};
}

/* Muon turns the momentum of each of a layer's matrices by five rounds of products in bf16 (Jordan et al. 2024): of [m, n],
 * m <= n, 4 m^2 n + 2 m^3 FLOPs a round. Every rank does it for all that it has. */
static double muon_flops(const Shape *s, double layers) {
    const double C = s->C, least_side = least(C, s->F), most = fmax(C, s->F);
    const double squares = 4 * 6 * C * C * C;
    const double wide = 2 * (4 * least_side * least_side * most + 2 * least_side * least_side * least_side);
    return layers * 5 * (squares + wide);
}

/* AdamW reads and writes what stands for each weight once; the norm reads the gradients. */
static double optimizer_seconds(const Shape *s, const Stage *stage) {
    const double own = weights_of(stage) / (s->j->o.zero ? s->j->o.grid.dp : 1);
    const double sweep = own * s->j->habits->optimizer / s->at.bandwidth;
    if (!s->j->muon) return sweep;
    return sweep + muon_flops(s, stage->layers / (4 * s->C * s->C + 2 * s->C * s->F)) / s->at.product;
}

static double hop_bytes(const Shape *s) {
    return s->r * s->C * s->size;
}

/* The pipeline as it runs, with the seconds a part takes a micro step; fills in bubble and messages between stages. */
static void play(const Shape *s, const double *forward, const double *backward, double busiest, Cost *c) {
    const Job *j = s->j;
    const int pp = j->o.grid.pp, chunks = chunks_of(j);
    const int64_t micros = micros_of(j), stride = (int64_t)j->o.grid.dp * j->o.grid.tp;
    if (pp == 1) return;
    const double rate = within_node(s, stride * pp) ? s->at.link : s->at.network;
    const double hop = message_seconds(hop_bytes(s), rate, 1, 2);
    const double sends = 2.0 * (double)micros * chunks;
    const double without = cost_pipeline(pp, chunks, micros, forward, backward, 0);
    const double with = cost_pipeline(pp, chunks, micros, forward, backward, hop);
    c->bubble = without - busiest;
    c->traffic[BY_PIPELINE] = (Traffic){sends * hop_bytes(s), sends * hop, with - without};
}

/* All parts; the stage that is busy longest gives what it does and waits for, the one with most weights the rest. */
static void add_parts(const Shape *s, Cost *c, Stage *heaviest) {
    const Job *j = s->j;
    const int pp = j->o.grid.pp, parts = pp * chunks_of(j);
    const double micros = (double)micros_of(j);
    double *forward = xcalloc((size_t)parts, sizeof *forward),
           *backward = xcalloc((size_t)parts, sizeof *backward);
    Stage *stage = xcalloc((size_t)pp, sizeof *stage), *busy = stage;
    for (int k = 0; k < parts; k++) {
        const Part p = part_of(s, parts, k);
        Stage *at = &stage[k % pp];
        Traffic t = {0};
        forward[k] = p.forward.seconds + tensor_wait(s, &p.forward, &t);
        backward[k] = p.backward.seconds + tensor_wait(s, &p.backward, &t);
        at->compute += micros * (p.forward.seconds + p.backward.seconds);
        at->layers += p.layers, at->others += p.others, at->backward += backward[k];
        at->tensor.bytes += micros * t.bytes, at->tensor.seconds += micros * t.seconds;
        at->tensor.exposed += micros * t.exposed;
        c->hardware_flops += micros * (p.forward.flops + p.backward.flops) * s->t * j->o.grid.dp;
        if (at->compute + at->tensor.exposed > busy->compute + busy->tensor.exposed) busy = at;
    }
    c->compute = busy->compute;
    c->traffic[j->o.sequence_parallel ? BY_SEQUENCE : BY_TENSOR] = busy->tensor;
    play(s, forward, backward, busy->compute + busy->tensor.exposed, c);
    *heaviest = stage[0];
    for (int i = 1; i < pp; i++)
        if (weights_of(&stage[i]) > weights_of(heaviest)) *heaviest = stage[i];
    free(forward), free(backward), free(stage);
}

Cost cost_of(const Job *j) {
    const Shape s = shape_of(j);
    Cost c = {0};
    Stage heaviest;
    add_parts(&s, &c, &heaviest);
    const double tokens = s.n * (double)micros_of(j) * j->o.grid.dp;
    c.model_flops = tokens * gpt_flops_per_token(j->model, j->o.T);
    c.traffic[BY_DATA] = data_traffic(&s, &heaviest);
    c.traffic[BY_TIED] = tied_traffic(&s);
    c.optimizer = optimizer_seconds(&s, &heaviest);
    c.seconds = c.compute + c.optimizer + c.bubble;
    for (int i = 0; i < N_TRAFFIC; i++) c.seconds += c.traffic[i].exposed;
    return c;
}
