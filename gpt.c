/* gpt.c - floor 3: see gpt.h. What a GPT computes, written once over the op table.
 *
 * The model is a chain of blocks, two a layer, and of sites between them:
 *
 *     embedding, site 0 -> attention 0 -> site 1 -> mlp 0 -> site 2 -> attention 1 -> ... -> site 2L -> head
 *
 * A block reads the operand h of the site before it and writes delta. Site k adds that delta to what the site
 * before it carries on, and normalises:
 *
 *     x_k = carried_(k-1) + dropout(delta),    h_k = norm_k(x_k)
 *
 * Pre-norm (GPT-2, GPT-3) carries x: site 0 is h.0.ln_1 over the embedding, site 2l is h.l.ln_1, site 2l+1 is
 * h.l.ln_2, and site 2L is ln_f. Post-norm (GPT-1) carries h: site 0 is the embedding itself, site 2l+1 is
 * h.l.ln_1 after attention l, and site 2l+2 is h.l.ln_2 after mlp l. Nothing else differs between the two,
 * forward or backward.
 *
 * Of many ranks, each has some layers (its chunks of the pipeline), and of each layer's matrices a slice (Megatron:
 * Shoeybi et al. 2019): attention has some heads, the MLP some hidden units, so that a block's delta, and backward the
 * gradient of its operand, are sums over the tensor group. Everything between the blocks is the same on all of the
 * group; or, sequence-parallel (Korthikanti et al. 2022), each has 1/tp of the rows there, a gather comes before each
 * block, and the sum is scattered. Chunks meet at sites: the lower one makes what the site carries on and sends it, the
 * upper one sends back its gradient.
 *
 * Read in this order: params.c, where ranks meet, the pass, the schedule, the plan. */
#include "gpt.h"

#include "params.h"
#include "schedule.h"
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what kind of layer -------------------------------------------------------------------------------- */

/* What may differ from layer to layer, as data. */
typedef struct LayerKind {
    int window;  /* attention sees so many tokens back, itself included; 0: all */
    float scale; /* of q k^T */
} LayerKind;

static LayerKind layer_kind(const ModelConfig *c, int l) {
    bool banded = !strcmp(c->model_type, "gpt3") && l % 2 == 1; /* Brown et al. 2020, section 2.1 */
    double scale = 1 / sqrt((double)c->n_embd / (double)c->n_head);
    if (c->scale_attn_by_inverse_layer_idx) scale /= l + 1;
    return (LayerKind){.window = banded ? (int)c->attention_window : 0, .scale = (float)scale};
}

/* ---- the model in memory ------------------------------------------------------------------------------- */

/* y = x W + b */
typedef struct Affine {
    Linear *linear;
    float *b, *db; /* [out], or NULL */
} Affine;
enum { QKV, OUT, FC, DOWN, N_AFFINE };
static const int affine_role[N_AFFINE] = {QKV_W, OUT_W, FC_W, DOWN_W};

/* Between two blocks: the residual stream and the next block's operand. */
typedef struct Site {
    float *g, *b, *dg, *db; /* [C]; NULL where there is no norm, or where the stage above has it */
    Tensor x;               /* [ns, C] the stream's dtype */
    Tensor h;               /* [ns, C] compute */
    float *mean, *rstd;     /* [ns] */
} Site;

typedef struct Layer {
    Affine affine[N_AFFINE];
    Attention attention; /* all but B, T and dropout */
    Tensor qkv;          /* [n, 3, NH, HS], of this rank's heads */
    Tensor att;          /* [n, NH, HS] */
    float *lse;          /* [B, NH, T] */
    Tensor fc, gelu;     /* [n, inner] before and after GELU, of this rank's units */
} Layer;

/* A run of layers that are passed in one go: all of them, or a stage's, or one of several that a stage has. Its sites
 * are 2 * from .. 2 * to. */
typedef struct Chunk {
    int from, to;
    bool first, last; /* of the whole model */
    int64_t slots;    /* so many micro steps are kept for their backward */
    size_t at, bytes; /* in the memory of activations: that of slot 0, of each slot */
} Chunk;

/* Gradients that are reduced together. */
typedef struct Bucket {
    Range all;   /* of the weights */
    int half;    /* complete when the backward of this half of a layer is; -1: at the end of the step */
    int64_t own; /* elements of each data rank */
    float *dw;   /* [all.n] */
    float *sum;  /* [own] of the micro steps so far, if gradients are shared out (ZeRO-2); else NULL */
} Bucket;

struct Gpt {
    ModelConfig c;
    GptOptions o;
    const Ops *ops;
    Grid grid;
    Comm *comm;
    bool post_norm, sliced; /* sliced: rows between blocks are shared by the tensor group */
    int64_t rows;           /* the largest n: B * T */
    int64_t Vp, V,
        V_first;   /* this rank's vocabulary: rows in memory, of which real, and the first one's id */
    int64_t NH, F; /* this rank's heads and hidden units; HS * NH of C */
    Dtype active;  /* of activations */
    Dtype stream;  /* of the residual stream and the logits */
    GptMemory memory;
    void *owned[5]; /* what gpt_free releases */

    Param *table;
    int n_params;
    int64_t elements;
    float *w;         /* [elements] */
    uint16_t *mirror; /* [elements] or NULL */
    float *wte, *wpe, *dwte, *dwpe;
    Layer *layer; /* [L] */
    Site *site;   /* [2L + 1] */
    Affine head;
    Chunk *chunk; /* [interleave] */
    Bucket *bucket;
    int n_buckets;
    const Bucket *reducing; /* see keep_sum */
    Batch *fed;             /* [micro_steps] this step's batches, without their tokens */

    int32_t *feed;                                 /* [slots of chunk 0][2][rows] */
    int32_t *tokens, *targets, *pos, *slot, *best; /* [rows], the first two within feed */
    float *loss;                                   /* [rows] */
    double *loss_sum;                              /* of the micro steps of a step */
    uint64_t *hash;                                /* one */
    ClassPart *parts;                              /* [tp, chunk of rows] */
    /* What all layers share: the output of a block and its gradient, the MLP's hidden layer after GELU unless it is
     * kept, the gradients of the stream, of an operand h, and of the widest tensor in a layer. */
    Tensor delta, gelu, dx, dh, wide;
    Tensor whole, partial; /* [n, C] sliced: rows of all the group; sums of which this rank keeps its rows */
    Tensor up, down,
        above;      /* [ns, C] what goes to the next stage, to the one before; what came from the next */
    Graph *graph;   /* chains of ops that come again and again: micro steps, decoding steps */
    int64_t passes; /* backward passes so far */
    Tensor logits, dlogits, decoded;
    int64_t logits_rows, decode_rows; /* rows of logits, and of those that go to the host */
};

/* One run over a chunk. */
typedef struct Pass {
    const Chunk *k;
    const Batch *batch; /* NULL when serving */
    KvCache *kv;        /* NULL unless serving */
    int64_t n, ns;      /* rows: tokens in all, and those of this rank between blocks */
    int B, T;
    bool train;      /* dropout, and a backward pass follows */
    bool fresh;      /* backward: comes straight after this micro step's forward */
    bool accumulate; /* gradients add */
    bool last;       /* of the step's micro steps: gradients are complete after it */
    float scale;     /* of the loss in the gradients */
} Pass;

/* ---- where ranks meet ---------------------------------------------------------------------------------- */

static bool is_split(const Gpt *m) {
    return m->grid.tp > 1;
}

/* All rows, of a tensor [ns, C] of this rank's. */
static Tensor gather(Gpt *m, const Pass *p, Tensor rows) {
    if (p->ns == p->n) return rows;
    const Tensor all = tensor(m->whole.p, rows.dtype);
    comm_all_gather(m->comm, GROUP_TENSOR, all.p, rows.p, p->ns * m->c.n_embd, wire_of(rows.dtype), NOW);
    return all;
}

/* Where a rank puts its part of a sum over the tensor group that is to become `rows` ... */
static Tensor partial(const Gpt *m, const Pass *p, Tensor rows) {
    return p->ns == p->n ? rows : tensor(m->partial.p, rows.dtype);
}

/* ... and the sum. */
static void sum_up(Gpt *m, const Pass *p, Tensor rows) {
    const int64_t n = p->ns * m->c.n_embd;
    if (p->ns < p->n)
        comm_reduce_scatter(m->comm, GROUP_TENSOR, rows.p, partial(m, p, rows).p, n, wire_of(rows.dtype),
                            NOW);
    else if (is_split(m))
        comm_all_reduce(m->comm, GROUP_TENSOR, rows.p, n, wire_of(rows.dtype), NOW);
}

static size_t rows_bytes(const Gpt *m, const Pass *p, Tensor t) {
    return (size_t)(p->ns * m->c.n_embd) * dtype_size(t.dtype);
}

/* y [n, C] += x: the sum that a site without a norm makes of two gradients. */
static void add(const Gpt *m, Tensor y, Tensor x, int64_t n, int64_t C) {
    m->ops->norm_backward(y, NO_TENSOR, y, x, NO_TENSOR, NULL, NULL, NULL, NULL, NULL, false, true, n, C,
                          (Dropout){0});
}

/* This rank's part of a bucket's gradients, within the bucket. */
static float *own_part(const Gpt *m, const Bucket *b) {
    return b->dw + m->grid.dp_rank * b->own;
}

/* A bucket's gradients are complete. With ZeRO-2 that is so after each micro step, and the sums so far join in. */
static void reduce(Gpt *m, const Bucket *b) {
    if (m->grid.dp == 1) return;
    if (!m->o.zero)
        comm_all_reduce(m->comm, GROUP_DATA, b->dw, b->all.n, WIRE_F32, BEHIND);
    else
        comm_reduce_scatter(m->comm, GROUP_DATA, own_part(m, b), b->dw, b->own, WIRE_F32, BEHIND);
}

/* ZeRO-2: keep this rank's part of the bucket that was reduced while the next one's gradients were made, in other
 * memory; the one after that will need this one's. */
static void keep_sum(Gpt *m, const Pass *p) {
    const Bucket *b = m->reducing;
    if (!b) return;
    m->reducing = NULL;
    comm_join(m->comm);
    if (p->accumulate)
        add(m, tensor(b->sum, DT_F32), tensor(own_part(m, b), DT_F32), b->own / PARAM_ALIGN, PARAM_ALIGN);
    else
        m->ops->copy(b->sum, own_part(m, b), (size_t)b->own * sizeof(float));
}

/* The backward of half a layer is done. */
static void half_done(Gpt *m, const Pass *p, int half) {
    for (const Bucket *b = m->bucket; b < m->bucket + m->n_buckets; b++) {
        if (b->half != half || !(p->last || b->sum)) continue;
        keep_sum(m, p);
        reduce(m, b);
        if (b->sum) m->reducing = b;
    }
}

/* All backward passes of the step are done. Gradients of the norms are sums over the rows, which a sliced tensor group
 * shares; a tied embedding's come from both ends of the pipeline. */
static void finish_gradients(Gpt *m) {
    int64_t from = INT64_MAX, to = 0;
    for (const Param *p = m->table; m->sliced && p < m->table + m->n_params; p++) {
        if (sweep_of(p) != NORMS) continue;
        from = p->at < from ? p->at : from;
        to = p->at + p->padded > to ? p->at + p->padded : to;
    }
    if (to > from) comm_all_reduce(m->comm, GROUP_TENSOR, m->bucket->dw + from, to - from, WIRE_F32, NOW);
    if (m->grid.pp > 1 && m->c.tie_word_embeddings && m->dwte)
        comm_all_reduce(m->comm, GROUP_TIED, m->dwte, m->Vp * m->c.n_embd, WIRE_F32, NOW);
    reduce(m, m->bucket);
    if (m->comm) comm_join(m->comm);
}

/* ---- the pass: forward --------------------------------------------------------------------------------- */

/* The places where dropout acts, as numbers for the generator. */
enum { DROP_EMBEDDING, DROP_ATTENTION, DROP_ATTENTION_OUT, DROP_MLP_OUT };
static uint32_t drop_site(int l, int which) {
    return (uint32_t)(3 * l + which);
}

/* On tensors with all rows. */
static Dropout dropout(const Pass *p, double probability, uint32_t site) {
    if (!p->train) return (Dropout){0};
    const Batch *b = p->batch;
    return (Dropout){(float)probability, b->seed, b->step, site, b->first_row * (uint64_t)b->T};
}

/* Of the delta that comes into site k: from attention if k is odd, from an MLP if it is even. */
static Dropout site_dropout(const Gpt *m, const Pass *p, int k) {
    if (k == 0) return (Dropout){0};
    Dropout d =
        dropout(p, m->c.resid_pdrop, drop_site((k - 1) / 2, k % 2 ? DROP_ATTENTION_OUT : DROP_MLP_OUT));
    if (p->ns < p->n) d.row0 += (uint64_t)(m->grid.tp_rank * p->ns);
    return d;
}

static Attention attention_of(const Gpt *m, const Pass *p, int l) {
    Attention a = m->layer[l].attention;
    a.B = p->B, a.T = p->T;
    a.drop = dropout(p, m->c.attn_pdrop, drop_site(l, DROP_ATTENTION));
    return a;
}

/* What goes on past site k: the sum, or with post-norm its norm. */
static Tensor carried(const Gpt *m, int k) {
    return m->post_norm ? m->site[k].h : m->site[k].x;
}

/* Each rank of a tensor group has some rows of the table; the first adds the positions. */
static void embed(Gpt *m, const Pass *p) {
    const Tensor x = carried(m, 0);
    m->ops->embed_forward(partial(m, p, x), m->tokens, p->kv ? m->pos : NULL, m->wte,
                          m->grid.tp_rank ? NULL : m->wpe, p->n, p->T, m->c.n_embd,
                          dropout(p, m->c.embd_pdrop, DROP_EMBEDDING));
    sum_up(m, p, x);
}

/* h_k = norm(x_k), for an x_k that stands. */
static void site_norm(Gpt *m, const Pass *p, int k) {
    Site *s = &m->site[k];
    if (!s->g) return;
    m->ops->norm_forward(s->h, NO_TENSOR, s->mean, s->rstd, s->x, NO_TENSOR, s->g, s->b,
                         (float)m->c.layer_norm_epsilon, p->ns, m->c.n_embd, (Dropout){0});
}

/* Is site k the upper end of a chunk, which the stage above goes on from? */
static bool is_sent(const Pass *p, int k) {
    return k == 2 * p->k->to && !p->k->last;
}

/* x_k = carried + dropout(delta), h = norm(x_k), in one sweep. At pre-norm's upper end the stage above has the norm. */
static void site_sum(Gpt *m, const Pass *p, int k, Tensor h) {
    Site *s = &m->site[k];
    m->ops->norm_forward(s->g ? h : NO_TENSOR, s->x, s->mean, s->rstd, carried(m, k - 1), m->delta, s->g,
                         s->b, (float)m->c.layer_norm_epsilon, p->ns, m->c.n_embd, site_dropout(m, p, k));
}

static void site_forward(Gpt *m, const Pass *p, int k) {
    if (is_sent(p, k)) comm_sent(m->comm, LANE_NEXT);
    site_sum(m, p, k, m->site[k].h);
}

/* y (and pre) = act(x W + b), for one of layer l's four. The sum of a product that is split by rows has b once. */
static void affine_forward(Gpt *m, const Pass *p, int l, int which, Tensor y, Tensor pre, Tensor x, Act act) {
    const Affine *a = &m->layer[l].affine[which];
    const bool once = which == OUT || which == DOWN;
    m->ops->linear_forward(y, pre, x, a->linear, once && m->grid.tp_rank ? NULL : a->b, act, p->n);
}

static void attention_forward(Gpt *m, const Pass *p, int l) {
    const Layer *y = &m->layer[l];
    const Attention a = attention_of(m, p, l);
    const KvCache *kv = p->kv;
    affine_forward(m, p, l, QKV, y->qkv, NO_TENSOR, gather(m, p, m->site[2 * l].h), ACT_NONE);
    if (kv)
        m->ops->attention_cached(y->att, y->qkv, kv->k[l], kv->v[l], kv->capacity, m->slot, m->pos, p->n, &a);
    else
        m->ops->attention_forward(y->att, y->lse, y->qkv, &a);
    affine_forward(m, p, l, OUT, partial(m, p, m->delta), NO_TENSOR, y->att, ACT_NONE);
    sum_up(m, p, m->delta);
}

static void mlp_up(Gpt *m, const Pass *p, int l) {
    Tensor pre = p->train ? m->layer[l].fc : NO_TENSOR;
    affine_forward(m, p, l, FC, m->layer[l].gelu, pre, gather(m, p, m->site[2 * l + 1].h), ACT_GELU);
}

static void mlp_down(Gpt *m, const Pass *p, int l) {
    affine_forward(m, p, l, DOWN, partial(m, p, m->delta), NO_TENSOR, m->layer[l].gelu, ACT_NONE);
    sum_up(m, p, m->delta);
}

static void forward(Gpt *m, const Pass *p) {
    const Chunk *k = p->k;
    const double from = now_seconds();
    const Tensor in = carried(m, 2 * k->from), out = carried(m, 2 * k->to);
    if (k->first)
        embed(m, p);
    else
        comm_recv(m->comm, LANE_NEXT, in.p, rows_bytes(m, p, in));
    site_norm(m, p, 2 * k->from);
    for (int l = k->from; l < k->to; l++) {
        comm_alive("a forward pass");
        attention_forward(m, p, l);
        site_forward(m, p, 2 * l + 1);
        mlp_up(m, p, l);
        mlp_down(m, p, l);
        site_forward(m, p, 2 * l + 2);
    }
    if (!k->last) comm_send(m->comm, LANE_NEXT, out.p, rows_bytes(m, p, out));
    trace_span("passes", "forward", from, now_seconds());
}

/* n rows in as even chunks as can be. */
static int64_t even_rows(const Gpt *m, int64_t n) {
    int64_t chunks = (n + m->logits_rows - 1) / m->logits_rows,
            even = round_up((n + chunks - 1) / chunks, 16);
    return even < m->logits_rows ? even : m->logits_rows;
}

static Tensor final_hidden(const Gpt *m) {
    return m->site[2 * m->c.n_layer].h;
}

static Tensor row_of(const Gpt *m, Tensor t, int64_t row) {
    return tensor_at(t, row * m->c.n_embd);
}

/* Loss, and if training the gradient of the logits, of n rows from lo on. Of a split vocabulary each rank knows its own
 * columns, and tells the others the little they need to know. */
static void classify_rows(Gpt *m, const Pass *p, int32_t *best, int64_t lo, int64_t n) {
    const Tensor dlogits = p->train ? m->dlogits : NO_TENSOR;
    const int32_t *targets = m->targets + lo;
    if (best) best += lo;
    if (!is_split(m)) {
        m->ops->classifier(dlogits, m->loss + lo, best, m->logits, targets, p->scale, n, m->V, m->Vp);
        return;
    }
    ClassPart *own = m->parts + m->grid.tp_rank * n;
    m->ops->classifier_part(own, m->logits, targets, m->V_first, n, m->V, m->Vp);
    comm_all_gather(m->comm, GROUP_TENSOR, m->parts, own, n * (int64_t)(sizeof *own / sizeof(float)),
                    WIRE_F32, NOW);
    m->ops->classifier_join(dlogits, m->loss + lo, best, m->logits, m->parts, m->grid.tp, targets, m->V_first,
                            p->scale, n, m->V, m->Vp);
}

/* The loss of every row, and if training the gradients of the head and of the last hidden state, by chunks of
 * rows: the logits never exist whole. */
static void classify(Gpt *m, const Pass *p, int32_t *best) {
    const int64_t chunk = even_rows(m, p->n);
    const Tensor h = gather(m, p, final_hidden(m)), dh = partial(m, p, m->dh);
    for (int64_t lo = 0; lo < p->n; lo += chunk) {
        int64_t n = lo + chunk < p->n ? chunk : p->n - lo;
        m->ops->linear_forward(m->logits, NO_TENSOR, row_of(m, h, lo), m->head.linear, NULL, ACT_NONE, n);
        classify_rows(m, p, best, lo, n);
        if (p->train)
            m->ops->linear_backward(row_of(m, dh, lo), m->dlogits, row_of(m, h, lo), NO_TENSOR, ACT_NONE,
                                    false, m->head.linear, NULL, p->accumulate || lo > 0, n);
    }
    if (p->train) sum_up(m, p, m->dh);
}

/* ---- the pass: backward -------------------------------------------------------------------------------- */

/* In: the gradient that reaches the stream from above (none at the top), and that of h_k. Out: m->dx below the site,
 * and m->delta, the gradient of the delta that came into it. At the lower end of a chunk no delta came, and what
 * reaches the stage below goes to it; at the upper end its gradient has come from there, and the operand's with it. */
static void site_backward(Gpt *m, const Pass *p, int k) {
    const Chunk *c = p->k;
    Site *s = &m->site[k];
    const bool top = k == 2 * c->to, bottom = k == 2 * c->from;
    const Tensor from_above = !top ? m->dx : c->last ? NO_TENSOR : m->above;
    const Tensor dx = bottom && !c->first ? m->down : m->dx;
    if (!s->g && k == 0) return;
    if (bottom && !c->first) comm_sent(m->comm, LANE_PREVIOUS);
    m->ops->norm_backward(dx, bottom ? NO_TENSOR : m->delta, from_above, is_sent(p, k) ? NO_TENSOR : m->dh,
                          s->x, s->mean, s->rstd, s->g, s->dg, s->db, p->accumulate, m->post_norm, p->ns,
                          m->c.n_embd, site_dropout(m, p, k));
}

/* dx, and the gradients of W and b, from dy. */
static void affine_backward(Gpt *m, const Pass *p, int l, int which, Tensor dx, Tensor dy, Tensor x) {
    const Affine *a = &m->layer[l].affine[which];
    m->ops->linear_backward(dx, dy, x, NO_TENSOR, ACT_NONE, false, a->linear, a->db, p->accumulate, p->n);
}

/* From m->delta, the gradient of the block's output, to m->dh, that of its operand. */
static void mlp_backward(Gpt *m, const Pass *p, int l) {
    const Layer *y = &m->layer[l];
    const Affine *a = &y->affine[DOWN];
    const bool again = m->o.recompute != RECOMPUTE_NONE;
    m->ops->linear_backward(m->wide, gather(m, p, m->delta), y->gelu, y->fc, ACT_GELU, again, a->linear,
                            a->db, p->accumulate, p->n);
    affine_backward(m, p, l, FC, partial(m, p, m->dh), m->wide, gather(m, p, m->site[2 * l + 1].h));
    sum_up(m, p, m->dh);
}

static void attention_backward(Gpt *m, const Pass *p, int l) {
    const Layer *y = &m->layer[l];
    const Attention a = attention_of(m, p, l);
    affine_backward(m, p, l, OUT, m->dh, gather(m, p, m->delta), y->att);
    m->ops->attention_backward(m->wide, m->dh, y->att, y->qkv, y->lse, &a);
    affine_backward(m, p, l, QKV, partial(m, p, m->dh), m->wide, gather(m, p, m->site[2 * l].h));
    sum_up(m, p, m->dh);
}

/* Fill the shared buffers again with what layer l's backward reads: the operands h, and when blocks are recomputed
 * all but what site 2l carried. The very same calls give the very same bits. Straight after the forward pass the last
 * layer's buffers still stand, and pre-norm's next site kept its own x: there the last product is not needed. */
static void layer_again(Gpt *m, const Pass *p, int l) {
    bool blocks = m->o.recompute == RECOMPUTE_BLOCK;
    if (!m->o.recompute) return;
    if (!blocks || !m->post_norm) site_norm(m, p, 2 * l);
    if (!blocks || (p->fresh && l == p->k->to - 1)) {
        site_norm(m, p, 2 * l + 1);
        return;
    }
    attention_forward(m, p, l);
    site_forward(m, p, 2 * l + 1);
    mlp_up(m, p, l);
    if (!m->post_norm) return;
    mlp_down(m, p, l);
    /* What the chunk sent may be on its way still, and the stages would wait for each other in a ring. Nobody here reads it. */
    site_sum(m, p, 2 * l + 2, is_sent(p, 2 * l + 2) ? m->dh : m->site[2 * l + 2].h);
}

static void embed_backward(Gpt *m, const Pass *p) {
    const int64_t C = m->c.n_embd;
    const bool head_wrote_it = m->c.tie_word_embeddings && p->k->last;
    if (!p->accumulate) {
        m->ops->zero(m->dwpe, (size_t)(m->c.n_positions * C) * sizeof(float));
        if (!head_wrote_it) m->ops->zero(m->dwte, (size_t)(m->Vp * C) * sizeof(float));
    }
    Tensor dh = m->post_norm ? m->dh : NO_TENSOR;
    if (p->ns < p->n && dh.p) { /* one tensor to gather instead of two */
        add(m, m->dx, dh, p->ns, C);
        dh = NO_TENSOR;
    }
    m->ops->embed_backward(m->dwte, m->dwpe, gather(m, p, m->dx), dh, m->tokens, p->n, p->T, C, true,
                           dropout(p, m->c.embd_pdrop, DROP_EMBEDDING));
}

/* ZeRO-2: its gradients begin anew in memory that others use as well; biases and norms go on adding. */
static void half_begin(Gpt *m, const Pass *p, int half) {
    if (!p->accumulate || m->o.zero < 2) return;
    for (const Param *q = m->table; q < m->table + m->n_params; q++) {
        const Bucket *b = &m->bucket[q->bucket];
        if (b->sum && half_of(q) == half)
            m->ops->zero(b->dw + (q->at - b->all.at), (size_t)q->padded * sizeof(float));
    }
}

static void backward(Gpt *m, const Pass *p) {
    const Chunk *k = p->k;
    const double from = now_seconds();
    if (!k->last) comm_recv(m->comm, LANE_PREVIOUS, m->above.p, rows_bytes(m, p, m->above));
    for (int l = k->to - 1; l >= k->from; l--) {
        comm_alive("a backward pass");
        layer_again(m, p, l);
        half_begin(m, p, 2 * l + 1);
        site_backward(m, p, 2 * l + 2);
        mlp_backward(m, p, l);
        half_done(m, p, 2 * l + 1);
        half_begin(m, p, 2 * l);
        site_backward(m, p, 2 * l + 1);
        attention_backward(m, p, l);
        half_done(m, p, 2 * l);
    }
    keep_sum(m, p);
    site_backward(m, p, 2 * k->from);
    if (k->first)
        embed_backward(m, p);
    else
        comm_send(m->comm, LANE_PREVIOUS, m->down.p, rows_bytes(m, p, m->down));
    trace_span("passes", "backward", from, now_seconds());
}

/* ---- training and scoring ------------------------------------------------------------------------------ */

static void upload_tokens(Gpt *m, int32_t *dst, const int32_t *src, int64_t n, int32_t least) {
    for (int64_t i = 0; i < n; i++)
        CHECK(src[i] >= least && src[i] < m->c.vocab_size, "token %d of a vocabulary of %d", src[i],
              (int)m->c.vocab_size);
    m->ops->to_device(dst, src, (size_t)n * sizeof *src);
}

/* The embedding's rows of tokens: their ids, or in a tensor group numbers within this rank's rows, -1 if it has none. */
static void upload_inputs(Gpt *m, const int32_t *tokens, int64_t n) {
    enum { PIECE = 1024 };
    if (!is_split(m)) {
        upload_tokens(m, m->tokens, tokens, n, 0);
        return;
    }
    for (int64_t at = 0; at < n; at += PIECE) {
        int32_t own[PIECE];
        const int64_t k = n - at < PIECE ? n - at : PIECE;
        for (int64_t i = 0; i < k; i++) {
            const int64_t row = tokens[at + i] - m->V_first;
            CHECK(tokens[at + i] >= 0 && tokens[at + i] < m->c.vocab_size);
            own[i] = row >= 0 && row < m->V ? (int32_t)row : -1;
        }
        m->ops->to_device(m->tokens + at, own, (size_t)k * sizeof *own);
    }
}

static Pass pass_of(const Gpt *m, const Batch *b, const Chunk *k) {
    Pass p = {.k = k, .batch = b, .n = (int64_t)b->B * b->T, .B = b->B, .T = b->T};
    CHECK(p.n > 0 && p.n <= m->rows && b->T <= m->c.n_positions, "batch of %d x %d", b->B, b->T);
    p.ns = m->sliced ? p.n / m->grid.tp : p.n;
    CHECK(p.n % (m->sliced ? m->grid.tp : 1) == 0);
    return p;
}

/* This micro step's tokens and targets stand in one of chunk 0's slots for as long as any chunk needs them. */
static void use_feed(Gpt *m, int64_t micro) {
    m->tokens = m->feed + micro % m->chunk->slots * 2 * m->rows;
    m->targets = m->tokens + m->rows;
}

static void feed(Gpt *m, const Batch *b, int64_t micro) {
    use_feed(m, micro);
    upload_inputs(m, b->tokens, (int64_t)b->B * b->T);
    upload_tokens(m, m->targets, b->targets, (int64_t)b->B * b->T, -1);
}

/* Of a chain of ops that is the same where these four are. */
static uint64_t chain_key(const uint64_t part[4]) {
    uint64_t key = 0;
    for (int i = 0; i < 4; i++) key = (key ^ part[i]) * 0x9e3779b97f4a7c15u, key ^= key >> 32;
    return key;
}

static void score(Gpt *m, const Pass *p, int32_t *best) {
    if (!p->k->last) return;
    classify(m, p, best);
    if (p->train && m->grid.tp_rank == 0) m->ops->sum(m->loss_sum, m->loss, p->n, p->accumulate);
}

/* Forward and backward of a whole model on one stage. */
static void micro_step(Gpt *m, const Batch *b, float scale, bool accumulate, bool last) {
    Pass p = pass_of(m, b, m->chunk);
    p.train = p.fresh = true, p.scale = scale, p.accumulate = accumulate, p.last = last;
    feed(m, b, 0);
    /* Without dropout a micro step is the same chain of ops each time. The first is not recorded: there a back end
     * finds its best algorithms; nor is one in which ranks talk. */
    const bool again = m->passes++ > 0 && !is_split(m) && m->o.zero < 2 && (m->grid.dp == 1 || !last) &&
                       !(m->c.embd_pdrop > 0 || m->c.resid_pdrop > 0 || m->c.attn_pdrop > 0);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    if (again && m->ops->replay(&m->graph, chain_key((const uint64_t[]){(uint64_t)b->B, (uint64_t)b->T, bits,
                                                                        accumulate})))
        return;
    forward(m, &p);
    score(m, &p, NULL);
    backward(m, &p);
    if (again) m->ops->replay_end(&m->graph);
}

void gpt_forward_backward(Gpt *m, const Batch *b, float scale, bool accumulate) {
    CHECK(m->o.train && m->grid.ranks == 1);
    micro_step(m, b, scale, accumulate, true);
}

/* Hands out pieces of memory. Run once without memory it measures; run again with that much it places. */
typedef struct Plan {
    char *base;
    size_t used;
} Plan;
static void plan_buffers(Gpt *m, const Chunk *k, Plan *keep, Plan *work);

/* Let the pass find this chunk's activations of this micro step. */
static void use_slot(Gpt *m, const Chunk *k, int64_t micro) {
    char *keep = m->owned[2];
    plan_buffers(m, k, &(Plan){.base = keep + k->at + (size_t)(micro % k->slots) * k->bytes},
                 &(Plan){.base = m->owned[3]});
    use_feed(m, micro);
}

/* One forward or backward pass of a pipeline's stage. */
static bool run_task(Gpt *m, const Task *t, bool fresh, int64_t micro_steps, NextBatch next, void *ctx,
                     float scale, Err *e) {
    Batch *b = &m->fed[t->micro];
    if (!t->backward && t->chunk == 0) {
        *b = (Batch){0};
        if (!next(ctx, t->micro, b, e)) return false;
        feed(m, b, t->micro);
    }
    Pass p = pass_of(m, b, &m->chunk[t->chunk]);
    p.train = true, p.fresh = fresh, p.scale = scale;
    p.accumulate = t->micro > 0, p.last = t->micro == micro_steps - 1;
    use_slot(m, p.k, t->micro);
    if (t->backward)
        backward(m, &p);
    else
        forward(m, &p), score(m, &p, NULL);
    return true;
}

static bool run_pipeline(Gpt *m, int64_t micro_steps, NextBatch next, void *ctx, float scale, Err *e) {
    const int64_t n = 2 * m->o.interleave * micro_steps;
    Task *task = schedule_make(m->grid.pp, m->grid.pp_rank, m->o.interleave, micro_steps);
    bool ok = true;
    for (int64_t i = 0; i < n && ok; i++) {
        const Task *t = &task[i], *before = i ? t - 1 : t;
        const bool fresh = t->chunk == before->chunk && t->micro == before->micro;
        CHECK(!t->backward || fresh || !m->chunk[t->chunk].last);
        ok = run_task(m, t, fresh, micro_steps, next, ctx, scale, e);
    }
    free(task);
    return ok;
}

bool gpt_accumulate(Gpt *m, int64_t micro_steps, NextBatch next, void *ctx, float scale, Err *e) {
    CHECK(m->o.train && micro_steps > 0 && (m->grid.pp == 1 || micro_steps <= m->o.micro_steps));
    if (m->grid.pp > 1) {
        if (!run_pipeline(m, micro_steps, next, ctx, scale, e)) return false;
    } else {
        for (int64_t i = 0; i < micro_steps; i++) {
            Batch b = {0};
            if (!next(ctx, i, &b, e)) return false;
            micro_step(m, &b, scale, i > 0, i == micro_steps - 1);
        }
    }
    finish_gradients(m);
    return true;
}

const double *gpt_loss_sum(const Gpt *m) {
    return m->loss_sum;
}

void gpt_losses(Gpt *m, const Batch *b, float *loss, int32_t *best) {
    for (const Chunk *k = m->chunk; k < m->chunk + m->o.interleave; k++) {
        Pass p = pass_of(m, b, k);
        use_slot(m, k, 0);
        if (k == m->chunk) feed(m, b, 0);
        forward(m, &p);
        score(m, &p, best ? m->best : NULL);
    }
    const size_t n = (size_t)b->B * (size_t)b->T;
    if (!is_last_stage(&m->grid)) m->ops->zero(m->loss, n * sizeof *m->loss);
    m->ops->to_host(loss, m->loss, n * sizeof *loss);
    if (best) m->ops->to_host(best, m->best, n * sizeof *best);
}

/* ---- serving ------------------------------------------------------------------------------------------- */

/* Of the keys, or of the values, of one layer; a multiple of 64 bytes. */
static int64_t kv_elements(const Gpt *m, int slots, int64_t capacity) {
    return round_up(slots * m->c.n_embd / m->grid.tp * capacity, 32);
}

static bool has_layer(const Gpt *m, int64_t l) {
    for (int i = 0; i < m->o.interleave; i++)
        if (l >= m->chunk[i].from && l < m->chunk[i].to) return true;
    return false;
}

bool kv_create(KvCache *kv, const Gpt *m, int slots, int64_t capacity, Err *e) {
    int64_t each = kv_elements(m, slots, capacity), L = m->c.n_layer, own = 0;
    for (int64_t l = 0; l < L; l++) own += has_layer(m, l);
    *kv = (KvCache){.slots = slots, .capacity = capacity, .ops = m->ops};
    kv->memory = m->ops->alloc((size_t)(2 * own * each) * dtype_size(m->active), "key/value cache", e);
    if (!kv->memory) return false;
    kv->k = xcalloc((size_t)L, sizeof *kv->k);
    kv->v = xcalloc((size_t)L, sizeof *kv->v);
    for (int64_t l = 0, i = 0; l < L; l++) {
        if (!has_layer(m, l)) continue;
        kv->k[l] = tensor_at(tensor(kv->memory, m->active), 2 * i++ * each);
        kv->v[l] = tensor_at(kv->k[l], each);
    }
    return true;
}

void kv_free(KvCache *kv) {
    if (kv->memory) kv->ops->release(kv->memory);
    free(kv->k);
    free(kv->v);
    *kv = (KvCache){0};
}

/* How many of want[0 .. n) name rows that stand in a row, at most `limit`. */
static int run_length(const int32_t *want, int n, int64_t limit) {
    int k = 1;
    while (k < n && k < limit && want[k] == want[0] + k) k++;
    return k;
}

/* Logits of k rows of the last hidden state, as [tp, k, Vp] in m->decoded, on all ranks. */
static void decode_head(Gpt *m, int64_t row, int64_t k) {
    const int64_t n = k * m->Vp;
    float *all = m->decoded.p, *own = all + m->grid.tp_rank * n;
    if (is_last_stage(&m->grid)) {
        m->ops->linear_forward(tensor(own, DT_F32), NO_TENSOR, row_of(m, final_hidden(m), row),
                               m->head.linear, NULL, ACT_NONE, k);
        if (is_split(m)) comm_all_gather(m->comm, GROUP_TENSOR, all, own, n, WIRE_F32, NOW);
    }
    if (m->grid.pp > 1)
        comm_broadcast(m->comm, GROUP_PIPELINE, all, m->grid.tp * n, WIRE_F32, m->grid.pp - 1, NOW);
}

/* Row j of k decoded ones. */
static void fetch_logits(const Gpt *m, float *logits, int64_t j, int64_t k) {
    for (int64_t t = 0, at = 0; at < m->c.vocab_size; t++, at += m->Vp) {
        const int64_t left = m->c.vocab_size - at, n = left < m->Vp ? left : m->Vp;
        m->ops->to_host(logits + at, (float *)m->decoded.p + (t * k + j) * m->Vp, (size_t)n * sizeof *logits);
    }
}

void gpt_decode(Gpt *m, KvCache *kv, const int32_t *tokens, const int32_t *slot, const int32_t *pos, int n,
                const int32_t *want, int n_want, float *logits) {
    CHECK(n > 0 && n <= gpt_decode_rows(m), "%d tokens for a model made for %d", n, gpt_decode_rows(m));
    for (int i = 0; i < n; i++)
        CHECK(slot[i] >= 0 && slot[i] < kv->slots && pos[i] >= 0 && pos[i] < kv->capacity &&
                  pos[i] < m->c.n_positions,
              "position %d of slot %d", pos[i], slot[i]);
    use_slot(m, m->chunk, 0);
    upload_inputs(m, tokens, n);
    m->ops->to_device(m->slot, slot, (size_t)n * sizeof *slot);
    m->ops->to_device(m->pos, pos, (size_t)n * sizeof *pos);
    for (int i = 0; i < n_want; i++) CHECK(want[i] >= 0 && want[i] < n);
    /* A step of decoding is the same chain of ops as the one before: one token of each sequence, all wanted. */
    const bool step = n_want == n && n <= m->decode_rows && run_length(want, n, n) == n && want[0] == 0;
    const bool chain = step && m->grid.tp * m->grid.pp == 1;
    if (!chain || !m->ops->replay(&m->graph, chain_key((const uint64_t[]){
                                                 (uint64_t)(uintptr_t)kv->memory, (uint64_t)kv->slots,
                                                 (uint64_t)kv->capacity, (uint64_t)n}))) {
        for (const Chunk *k = m->chunk; k < m->chunk + m->o.interleave; k++) {
            use_slot(m, k, 0);
            forward(m, &(Pass){.k = k, .kv = kv, .n = n, .ns = n, .B = n, .T = 1});
        }
        if (step) decode_head(m, 0, n);
        if (chain) m->ops->replay_end(&m->graph);
    }
    for (int i = 0, k; i < n_want; i += k) {
        k = run_length(want + i, n_want - i, m->decode_rows);
        if (!step) decode_head(m, want[i], k);
        for (int j = 0; j < k; j++) fetch_logits(m, logits + (i + j) * m->c.vocab_size, j, k);
    }
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

static void *plan_take(Plan *p, int64_t elements, size_t size) {
    void *at = p->base ? p->base + p->used : NULL;
    p->used += ((size_t)elements * size + 63) & ~(size_t)63;
    return at;
}

static Tensor plan_tensor(Plan *p, int64_t elements, Dtype d) {
    return tensor(plan_take(p, elements, dtype_size(d)), d);
}

/* A buffer of this layer's or site's own if backward must find it, else the one that all share. */
static Tensor plan_kept(Plan *keep, bool own, Tensor shared, int64_t elements) {
    return own ? plan_tensor(keep, elements, shared.dtype) : shared;
}

/* Rows between blocks. */
static int64_t site_rows(const Gpt *m) {
    return m->sliced ? (m->rows + m->grid.tp - 1) / m->grid.tp : m->rows;
}

int gpt_decode_rows(const Gpt *m) {
    return (int)site_rows(m);
}

/* Sites keep what backward does not make again: every x and h; every x; or, when blocks are recomputed, what each
 * layer starts from. Shared buffers go by parity, so that a site never overwrites what the site before it carries. */
static void plan_sites(Gpt *m, const Chunk *c, Plan *keep, Plan *work) {
    const int64_t n = site_rows(m) * m->c.n_embd;
    const bool blocks = m->o.recompute == RECOMPUTE_BLOCK, every_x = m->o.train && !blocks,
               every_h = m->o.train && m->o.recompute == RECOMPUTE_NONE;
    Tensor x[2], h[2];
    for (int i = 0; i < 2; i++) {
        x[i] = every_x ? tensor(NULL, m->stream) : plan_tensor(work, n, m->stream);
        h[i] = every_h ? tensor(NULL, m->active) : plan_tensor(work, n, m->active);
    }
    for (int64_t k = 2 * c->from; k <= 2 * c->to; k++) {
        Site *s = &m->site[k];
        const bool bottom = k == 2 * c->from, sent = k == 2 * c->to && !c->last,
                   layer_input = m->o.train && k % 2 == 0;
        if (sent && !m->post_norm)
            s->x = m->up;
        else if (!bottom || !m->post_norm)
            s->x = plan_kept(keep, every_x || (layer_input && !m->post_norm), x[k % 2], n);
        if (sent && m->post_norm)
            s->h = m->up;
        else
            s->h =
                plan_kept(keep, every_h || (layer_input && m->post_norm && (blocks || bottom)), h[k % 2], n);
        s->mean = plan_take(keep, site_rows(m), sizeof(float));
        s->rstd = plan_take(keep, site_rows(m), sizeof(float));
    }
}

static bool keeps_gelu(const Gpt *m) {
    return m->o.train && m->o.recompute == RECOMPUTE_NONE;
}

static void plan_layers(Gpt *m, const Chunk *c, Plan *keep, Plan *work) {
    const int64_t n = m->rows, C = n * m->c.n_embd / m->grid.tp, F = n * m->F, NH = n * m->NH;
    const Dtype d = m->active;
    const bool own = m->o.train && m->o.recompute != RECOMPUTE_BLOCK;
    Layer shared = {.qkv = {.dtype = d}, .att = {.dtype = d}, .fc = {.dtype = d}};
    if (!own) {
        shared.qkv = plan_tensor(work, 3 * C, d);
        shared.att = plan_tensor(work, C, d);
        shared.lse = plan_take(work, NH, sizeof(float));
        if (m->o.train) shared.fc = plan_tensor(work, F, d);
    }
    for (int64_t l = c->from; l < c->to; l++) {
        Layer *y = &m->layer[l];
        y->qkv = plan_kept(keep, own, shared.qkv, 3 * C);
        y->att = plan_kept(keep, own, shared.att, C);
        y->lse = own ? plan_take(keep, NH, sizeof(float)) : shared.lse;
        y->fc = plan_kept(keep, own, shared.fc, F);
        y->gelu = plan_kept(keep, keeps_gelu(m), m->gelu, F);
    }
}

static int64_t logits_rows(const Gpt *m) {
    enum { CHUNK_MULTIPLE = 64 };
    int64_t fit = (int64_t)m->ops->logits_bytes / (m->Vp * (int64_t)dtype_size(m->stream)) / CHUNK_MULTIPLE *
                  CHUNK_MULTIPLE;
    if (fit < CHUNK_MULTIPLE) fit = CHUNK_MULTIPLE;
    if (m->o.logits_rows) fit = m->o.logits_rows;
    return m->rows < fit ? m->rows : fit;
}

/* What travels between stages, and where the rows of a tensor group meet. */
static void plan_meetings(Gpt *m, Plan *work) {
    const int64_t all = m->rows * m->c.n_embd, n = site_rows(m) * m->c.n_embd;
    const Dtype widest = dtype_size(m->stream) > dtype_size(m->active) ? m->stream : m->active;
    if (m->sliced) m->whole = plan_tensor(work, all, widest), m->partial = plan_tensor(work, all, widest);
    if (m->grid.pp > 1) m->up = plan_tensor(work, n, m->post_norm ? m->active : m->stream);
    if (m->grid.pp > 1 && m->o.train)
        m->down = plan_tensor(work, n, m->stream), m->above = plan_tensor(work, n, m->stream);
    if (is_split(m)) m->parts = plan_take(work, m->grid.tp * m->logits_rows, sizeof *m->parts);
}

static void plan_scratch(Gpt *m, Plan *work) {
    const int64_t C = m->c.n_embd / m->grid.tp, n = m->rows, ns = site_rows(m) * m->c.n_embd,
                  decoded = m->grid.tp * m->decode_rows * m->Vp;
    const Dtype d = m->active;
    const bool train = m->o.train;
    int32_t **ids[] = {&m->pos, &m->slot, &m->best};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) *ids[i] = plan_take(work, n, sizeof **ids[i]);
    m->feed = plan_take(work, m->chunk->slots * 2 * n, sizeof *m->feed);
    m->loss = plan_take(work, n, sizeof(float));
    m->loss_sum = plan_take(work, 1, sizeof(double));
    m->hash = plan_take(work, 1, sizeof *m->hash);
    plan_meetings(m, work);
    if (train) m->dh = plan_tensor(work, ns, d);
    /* Logits stand in the place of what only layers use. Those that go to the host are fp32, so there may be fewer. */
    const size_t mark = work->used;
    m->decoded = plan_tensor(work, decoded, DT_F32);
    work->used = mark;
    m->logits = plan_tensor(work, m->logits_rows * m->Vp, m->stream);
    if (train) m->dlogits = d == m->stream ? m->logits : plan_tensor(work, m->logits_rows * m->Vp, d);
    if (work->used < mark + (size_t)decoded * sizeof(float))
        work->used = mark + (size_t)decoded * sizeof(float);
    const size_t end = work->used;
    work->used = mark;
    m->delta = plan_tensor(work, ns, d);
    m->gelu = keeps_gelu(m) ? tensor(NULL, d) : plan_tensor(work, n * m->F, d);
    if (train) m->dx = plan_tensor(work, ns, m->stream);
    if (train) m->wide = plan_tensor(work, n * (m->F > 3 * C ? m->F : 3 * C), d);
    if (work->used < end) work->used = end;
}

/* The activations of one micro step in a chunk, and what all passes share, which is the same for all chunks. */
static void plan_buffers(Gpt *m, const Chunk *k, Plan *keep, Plan *work) {
    plan_scratch(m, work);
    plan_sites(m, k, keep, work);
    plan_layers(m, k, keep, work);
}

static void plan_chunks(Gpt *m) {
    const Grid *g = &m->grid;
    for (int i = 0; i < m->o.interleave; i++) {
        Chunk *k = &m->chunk[i];
        const int part = i * g->pp + g->pp_rank, parts = g->pp * m->o.interleave;
        gpt_stage(&m->c, parts, part, &k->from, &k->to);
        k->first = part == 0, k->last = part == parts - 1;
        k->slots = 1;
        if (g->pp > 1 && m->o.train)
            k->slots = schedule_in_flight(g->pp, g->pp_rank, m->o.interleave, m->o.micro_steps, i);
    }
    m->memory.activations = m->memory.workspace = 0;
    for (int i = 0; i < m->o.interleave; i++) {
        Chunk *k = &m->chunk[i];
        Plan keep = {0}, work = {0};
        plan_buffers(m, k, &keep, &work);
        k->at = m->memory.activations, k->bytes = keep.used;
        m->memory.activations += (size_t)k->slots * k->bytes;
        if (work.used > m->memory.workspace) m->memory.workspace = work.used;
    }
}

/* ---- gradients in buckets, and who owns what ------------------------------------------------------------- */

static void plan_buckets(Gpt *m) {
    m->n_buckets = m->n_params ? m->table[0].bucket + 1 : 1;
    for (int i = 0; i < m->n_params; i++)
        if (m->table[i].bucket >= m->n_buckets) m->n_buckets = m->table[i].bucket + 1;
    m->bucket = xcalloc((size_t)m->n_buckets, sizeof *m->bucket);
    for (int i = 0; i < m->n_buckets; i++) m->bucket[i] = (Bucket){.all.at = m->elements, .half = -1};
    for (const Param *p = m->table; p < m->table + m->n_params; p++) {
        Bucket *b = &m->bucket[p->bucket];
        if (p->at < b->all.at) b->all.at = p->at;
        if (p->bucket && (b->half < 0 || half_of(p) < b->half)) b->half = half_of(p);
    }
    for (int i = 0; i < m->n_buckets; i++) {
        Bucket *b = &m->bucket[i];
        const int64_t end = i + 1 < m->n_buckets ? b[1].all.at : m->elements;
        b->all.n = end - b->all.at;
        b->own = b->all.n / m->grid.dp;
        CHECK(b->own * m->grid.dp == b->all.n);
    }
}

/* With ZeRO-2 halves of layers take turns in the memory of two buckets, and sums of what this rank owns are kept.
 * Measures, or with memory places. Returns the bytes. */
static size_t place_gradients(Gpt *m, float *memory) {
    const bool shared_out = m->o.zero > 1 && m->grid.dp > 1;
    int64_t widest = 0, at = m->bucket->all.n;
    for (int i = 1; i < m->n_buckets; i++) {
        m->bucket[i].dw = memory ? memory + m->bucket[i].all.at : NULL;
        if (m->bucket[i].all.n > widest) widest = m->bucket[i].all.n;
    }
    m->bucket->dw = memory;
    if (!shared_out) return (size_t)m->elements * sizeof(float);
    const int64_t turns = m->n_buckets > 2 ? 2 : m->n_buckets - 1;
    for (int i = 1; i < m->n_buckets && memory; i++)
        m->bucket[i].dw = memory + at + i % 2 * (turns - 1) * widest;
    at += turns * widest;
    for (int i = 1; i < m->n_buckets; at += m->bucket[i++].own)
        if (memory) m->bucket[i].sum = memory + at;
    return (size_t)at * sizeof(float);
}

float *gpt_gradient_at(const Gpt *m, int64_t at) {
    const Bucket *b = m->bucket + m->n_buckets - 1;
    while (at < b->all.at) b--;
    at -= b->all.at;
    if (!b->sum) return b->dw + at;
    at -= m->grid.dp_rank * b->own;
    CHECK(at >= 0 && at < b->own, "a gradient that another rank has");
    return b->sum + at;
}

Range *gpt_owned(const Gpt *m, int dp_rank, int *n, int64_t *total) {
    const bool shared_out = m->o.zero && m->grid.dp > 1;
    Range *r = xmalloc((size_t)m->n_buckets * sizeof *r);
    *n = shared_out ? m->n_buckets : 1;
    *total = shared_out ? m->elements / m->grid.dp : m->elements;
    r[0] = (Range){0, m->elements};
    for (int i = 0; i < *n && shared_out; i++)
        r[i] = (Range){m->bucket[i].all.at + dp_rank * m->bucket[i].own, m->bucket[i].own};
    return r;
}

/* What others have as well, and count: on all but the first of a tensor group what is not sliced, and the copy of the
 * embedding. It stands in one run. */
static Range counted_elsewhere(const Gpt *m) {
    Range r = {0, 0};
    for (const Param *p = m->table; p < m->table + m->n_params; p++) {
        const bool whole = p->split == SPLIT_NONE && m->grid.tp_rank > 0;
        if (!whole && !p->copy) continue;
        const int64_t end = r.n ? r.at + r.n : p->at, mine = p->at + p->padded;
        if (!r.n || p->at < r.at) r.at = p->at;
        r.n = (mine > end ? mine : end) - r.at;
    }
    return r;
}

Range *gpt_counted(const Gpt *m, int *n) {
    int owned, k = 0;
    int64_t total;
    Range *from = gpt_owned(m, m->grid.dp_rank, &owned, &total), *r = xmalloc((size_t)owned * 2 * sizeof *r);
    const Range not = counted_elsewhere(m);
    if (!m->o.zero && m->grid.dp_rank > 0) owned = 0;
    for (int i = 0; i < owned; i++) {
        const int64_t lo = from[i].at, hi = lo + from[i].n, a = between(not .at, lo, hi),
                      b = between(not .at + not .n, lo, hi);
        if (a > lo) r[k++] = (Range){lo, a - lo};
        if (hi > b) r[k++] = (Range){b, hi - b};
    }
    free(from);
    *n = k;
    return r;
}

void gpt_weights_share(Gpt *m, bool complete) {
    if (!m->o.zero || m->grid.dp == 1) return;
    for (int i = 0; i < m->n_buckets; i++) {
        const Bucket *b = &m->bucket[i];
        const int64_t own = b->all.at + m->grid.dp_rank * b->own;
        if (complete || !m->mirror || i == 0)
            comm_all_gather(m->comm, GROUP_DATA, m->w + b->all.at, m->w + own, b->own, WIRE_F32, BEHIND);
        if (m->mirror && !complete)
            comm_all_gather(m->comm, GROUP_DATA, m->mirror + b->all.at, m->mirror + own, b->own, WIRE_BF16,
                            BEHIND);
    }
    comm_join(m->comm);
}

/* With ZeRO the masters of a bucket's weights that have a mirror are right only where they are owned. */
void gpt_checksums(const Gpt *m, uint64_t sum[N_SHARED]) {
    const bool mirrors = m->mirror && m->o.zero && m->grid.dp > 1;
    memset(sum, 0, N_SHARED * sizeof *sum);
    for (const Param *p = m->table; p < m->table + m->n_params; p++) {
        const bool mirror = mirrors && p->bucket > 0;
        uint64_t hash;
        m->ops->checksum(m->hash, mirror ? (uint32_t *)(m->mirror + p->at) : (uint32_t *)(m->w + p->at),
                         p->padded / (mirror ? 2 : 1));
        m->ops->to_host(&hash, m->hash, sizeof hash);
        hash *= 2 * (uint64_t)p->row + 1; /* two rows that changed places would not show */
        sum[SHARED_DATA] += hash;
        if (p->split == SPLIT_NONE) sum[SHARED_TENSOR] += hash;
        if (p->role == WTE && m->c.tie_word_embeddings) sum[SHARED_TIED] += hash;
    }
}

/* ---- making it ----------------------------------------------------------------------------------------- */

/* The one map from (layer, role) to a tensor: layers may come to share theirs here. */
static const Param *find(const Gpt *m, int64_t layer, int role) {
    for (const Param *p = m->table; p < m->table + m->n_params; p++)
        if (p->role == role && p->layer == layer) return p;
    return NULL;
}

static float *weight(const Gpt *m, int64_t layer, int role) {
    const Param *p = find(m, layer, role);
    return p && m->w ? m->w + p->at : NULL;
}

static float *gradient(const Gpt *m, int64_t layer, int role) {
    const Param *p = find(m, layer, role);
    const Bucket *b = p ? &m->bucket[p->bucket] : NULL;
    return b && b->dw ? b->dw + (p->at - b->all.at) : NULL;
}

static LinearSpec linear_spec(const Gpt *m, int64_t layer, int role) {
    static float not_yet; /* while only measuring: a gradient, and a mirror, will be there */
    static uint16_t no_copy_yet;
    const Param *p = find(m, layer, role);
    const int tp = m->grid.tp;
    LinearSpec s = {.in = p->shape[0], .out = p->shape[1], .compute = m->o.compute, .max_rows = m->rows};
    if (p->split == SPLIT_COLUMNS) s.out /= tp;
    if (p->split == SPLIT_ROWS) s.in /= tp;
    if (p->split == SPLIT_VOCAB)
        s.out_major = true, s.in = p->shape[1], s.out = m->Vp, s.max_rows = m->logits_rows;
    if (p->split == SPLIT_VOCAB) s.compute = m->active; /* fp8 would cost the loss more than it saves */
    s.w = weight(m, layer, role);
    s.copy = m->mirror ? m->mirror + p->at : m->ops->mirror(m->o.compute) ? &no_copy_yet : NULL;
    s.dw = m->o.train && !m->w ? &not_yet : gradient(m, layer, role);
    return s;
}

/* Measures a linear's prepared copies; if there are weights, makes it. */
static bool make_affine(Gpt *m, Affine *a, int64_t layer, int role, Err *e) {
    LinearSpec s = linear_spec(m, layer, role);
    m->memory.prepared += m->ops->linear_bytes(&s);
    if (!m->w) return true;
    if (role != WTE && role != HEAD_W)
        a->b = weight(m, layer, role + 1), a->db = gradient(m, layer, role + 1);
    return (a->linear = m->ops->linear_create(&s, e)) != NULL;
}

static bool make_affines(Gpt *m, Err *e) {
    m->memory.prepared = 0;
    for (int64_t l = 0; l < m->c.n_layer; l++)
        for (int i = 0; i < N_AFFINE && has_layer(m, l); i++)
            if (!make_affine(m, &m->layer[l].affine[i], l, affine_role[i], e)) return false;
    if (!is_last_stage(&m->grid)) return true;
    if (m->c.tie_word_embeddings) return make_affine(m, &m->head, -1, WTE, e);
    return make_affine(m, &m->head, m->c.n_layer, HEAD_W, e);
}

static void bind_embeddings(Gpt *m) {
    m->wte = weight(m, -1, WTE), m->dwte = gradient(m, -1, WTE);
    m->wpe = weight(m, -1, WPE), m->dwpe = gradient(m, -1, WPE);
}

/* The model's norms in order, two a layer and then ln_f, stand at the sites in order, post-norm's from site 1 on. Those
 * of other ranks' layers are not found, and stay NULL here. */
static void bind_norms(Gpt *m) {
    const int64_t last = 2 * m->c.n_layer;
    for (int64_t k = m->post_norm; k <= last; k++) {
        const int64_t norm = k - m->post_norm;
        const int role = norm == last ? LNF_W : norm % 2 ? LN2_W : LN1_W;
        Site *s = &m->site[k];
        s->g = weight(m, norm / 2, role), s->dg = gradient(m, norm / 2, role);
        s->b = weight(m, norm / 2, role + 1), s->db = gradient(m, norm / 2, role + 1);
    }
}

static void describe_layers(Gpt *m) {
    for (int l = 0; l < m->c.n_layer; l++) {
        const LayerKind kind = layer_kind(&m->c, l);
        m->layer[l].attention = (Attention){.NH = (int)m->NH,
                                            .NH_total = (int)m->c.n_head,
                                            .head0 = m->grid.tp_rank * (int)m->NH,
                                            .HS = (int)(m->c.n_embd / m->c.n_head),
                                            .window = kind.window,
                                            .scale = kind.scale};
    }
}

/* Everything about the model but its memory. */
static Gpt *describe(const ModelConfig *c, const GptOptions *given) {
    CHECK(c->vocab_size > 0 && c->n_layer > 0 && given->B > 0 && given->T > 0);
    Gpt *m = xcalloc(1, sizeof *m);
    const GptOptions *o = &m->o;
    m->c = *c, m->o = options_full(given), m->ops = o->ops, m->grid = o->grid, m->comm = o->comm;
    m->post_norm = is_post_norm(c);
    m->sliced = o->sequence_parallel && is_split(m);
    m->rows = (int64_t)o->B * o->T;
    m->Vp = vocab_rows(c, m->grid.tp);
    m->V_first = m->grid.tp_rank * m->Vp, m->V = between(c->vocab_size - m->V_first, 0, m->Vp);
    m->NH = c->n_head / m->grid.tp, m->F = model_inner(c) / m->grid.tp;
    m->active = dtype_of_tensors(o->compute);
    m->stream = o->ops->stream(o->compute);
    m->logits_rows = logits_rows(m);
    m->decode_rows = m->logits_rows * (int64_t)dtype_size(m->stream) / (int64_t)sizeof(float);
    if (m->decode_rows < 1) m->decode_rows = 1;
    m->table = gpt_params(c, o, &m->n_params, &m->elements);
    m->layer = xcalloc((size_t)c->n_layer, sizeof *m->layer);
    m->site = xcalloc((size_t)(2 * c->n_layer + 1), sizeof *m->site);
    m->chunk = xcalloc((size_t)o->interleave, sizeof *m->chunk);
    m->fed = xcalloc((size_t)o->micro_steps, sizeof *m->fed);
    describe_layers(m);
    plan_buckets(m);
    plan_chunks(m);
    make_affines(m, NULL);
    m->memory.weights = (size_t)m->elements * sizeof(float);
    m->memory.mirror = o->ops->mirror(o->compute) ? (size_t)m->elements * sizeof *m->mirror : 0;
    m->memory.gradients = o->train ? place_gradients(m, NULL) : 0;
    return m;
}

bool gpt_memory(const ModelConfig *c, const GptOptions *o, GptMemory *mem, Err *e) {
    if (!model_check(c, "model", e) || !gpt_grid_check(c, o, e)) return false;
    Gpt *m = describe(c, o);
    *mem = m->memory;
    gpt_free(m);
    return true;
}

Gpt *gpt_create(const ModelConfig *c, const GptOptions *o, Err *e) {
    if (!model_check(c, "model", e) || !gpt_grid_check(c, o, e)) return NULL;
    Gpt *m = describe(c, o);
    CHECK(m->comm || m->grid.ranks == 1);
    const struct {
        size_t bytes;
        const char *what;
    } need[5] = {{m->memory.weights, "weights"},
                 {m->memory.gradients, "gradients"},
                 {m->memory.activations, "activations"},
                 {m->memory.workspace, "workspace"},
                 {m->memory.mirror, "bf16 weights"}};
    bool ok = true;
    for (int i = 0; i < 5 && ok; i++)
        if (need[i].bytes) ok = (m->owned[i] = m->ops->alloc(need[i].bytes, need[i].what, e)) != NULL;
    if (ok) {
        m->w = m->owned[0], m->mirror = m->owned[4];
        if (m->owned[1]) place_gradients(m, m->owned[1]);
        use_slot(m, m->chunk, 0);
        bind_embeddings(m);
        bind_norms(m);
        ok = make_affines(m, e);
    }
    if (ok) return m;
    gpt_free(m);
    return NULL;
}

void gpt_free(Gpt *m) {
    if (!m) return;
    for (int64_t l = 0; l < m->c.n_layer; l++)
        for (int i = 0; i < N_AFFINE; i++) m->ops->linear_free(m->layer[l].affine[i].linear);
    m->ops->linear_free(m->head.linear);
    m->ops->graph_free(m->graph);
    for (int i = 0; i < 5; i++) m->ops->release(m->owned[i]);
    free(m->table);
    free(m->layer);
    free(m->site);
    free(m->chunk);
    free(m->bucket);
    free(m->fed);
    free(m);
}

void gpt_weights_changed(Gpt *m, bool mirrored) {
    for (int64_t l = 0; l < m->c.n_layer; l++)
        for (int i = 0; i < N_AFFINE && has_layer(m, l); i++)
            m->ops->linear_refresh(m->layer[l].affine[i].linear, mirrored);
    if (m->head.linear) m->ops->linear_refresh(m->head.linear, mirrored);
}

const ModelConfig *gpt_config(const Gpt *m) {
    return &m->c;
}
const GptOptions *gpt_options(const Gpt *m) {
    return &m->o;
}
const Param *gpt_table(const Gpt *m, int *n) {
    return *n = m->n_params, m->table;
}
float *gpt_weights(const Gpt *m) {
    return m->w;
}
uint16_t *gpt_mirror(const Gpt *m) {
    return m->mirror;
}
int64_t gpt_elements(const Gpt *m) {
    return m->elements;
}

/* ---- initial weights ----------------------------------------------------------------------------------- */

/* n of p's values from element `at` of the file's tensor on: they do not depend on who has them. */
static void init_values(const Param *p, float *out, int64_t at, int64_t n, uint64_t seed) {
    if (p->init == INIT_NORMAL)
        rand_normals(out, (size_t)n, p->std, seed, RAND_INIT, (uint64_t)p->row, (uint64_t)at);
    else
        for (int64_t i = 0; i < n; i++) out[i] = p->init == INIT_ONE;
}

/* By pieces that stay in a core's cache, so that the memory is written once and by all threads. */
static void init_param(Gpt *m, const Param *p, uint64_t seed) {
    enum { PIECE = 8192 };
    const int64_t pieces = (p->inner + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p->outer * pieces; i++) {
        float piece[PIECE + 4];
        const int64_t o = i / pieces, at = i % pieces * PIECE, left = p->inner - at,
                      n = left < PIECE ? left : PIECE, from = o * p->pitch + p->first + at,
                      lead = from % 4; /* random numbers come in fours */
        init_values(p, piece, from - lead, n + lead, seed);
        m->ops->to_device(m->w + p->at + o * p->inner + at, piece + lead, (size_t)n * sizeof *piece);
    }
}

void gpt_init(Gpt *m, uint64_t seed) {
    for (int i = 0; i < m->n_params; i++) init_param(m, &m->table[i], seed);
    gpt_weights_changed(m, false);
}
