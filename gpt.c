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
 * Read in this order: the table, the pass, the plan. */
#include "gpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB_MULTIPLE = 128, PARAM_ALIGN = 16 /* elements */ };

static int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

/* ---- what kind of layer -------------------------------------------------------------------------------- */

static bool is_post_norm(const ModelConfig *c) {
    return !strcmp(c->model_type, "openai-gpt");
}

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

/* ---- the parameter table ------------------------------------------------------------------------------- */

/* What a tensor is for: before the layers, in each of them, after them. A bias follows its weight. */
enum { WTE, WPE, LAYER_ROLES };
enum { LN1_W = LAYER_ROLES, LN1_B, QKV_W, QKV_B, OUT_W, OUT_B, MLP_ROLES };
enum { LN2_W = MLP_ROLES, LN2_B, FC_W, FC_B, DOWN_W, DOWN_B, LAST_ROLES };
enum { LNF_W = LAST_ROLES, LNF_B, HEAD_W, N_ROLES };

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
    p.padded = p.inner = p.pitch = p.count, p.outer = 1;
    if (roles[role].shape[0] == VOCAB) p.padded = round_up(p.shape[0], VOCAB_MULTIPLE) * p.shape[1];
    if (p.init == INIT_NORMAL) p.std = (float)init_std(c, role);
    p.decay = p.rank == 2;
    if (inside && p.rank == 2) p.parts = roles[role].shape[1] == WIDTH3 ? 3 : 1;
    return p;
}

/* Where in memory, so that what an optimizer treats alike stands together: first what does not decay, then the
 * embeddings and the head, then the matrices inside the layers. */
static int sweep_of(const Param *p) {
    return p->parts ? 2 : p->decay;
}

Param *gpt_params(const ModelConfig *c, const GptOptions *o, int *n, int64_t *elements) {
    (void)o;
    static const int parts[] = {WTE, LAYER_ROLES, LAST_ROLES, N_ROLES};
    int L = (int)c->n_layer;
    Param *table = xcalloc((size_t)(L + 1) * N_ROLES, sizeof *table);
    *n = 0;
    for (int layer = -1; layer <= L; layer++) {
        int part = layer < 0 ? 0 : layer < L ? 1 : 2;
        for (int role = parts[part]; role < parts[part + 1]; role++)
            if (role_is_in(c, role)) table[*n] = param_make(c, layer, role), table[*n].row = *n, ++*n;
    }
    int64_t at = 0;
    for (int sweep = 0; sweep < 3; sweep++)
        for (Param *p = table; p < table + *n; p++)
            if (sweep_of(p) == sweep) p->at = at, at += round_up(p->padded, PARAM_ALIGN);
    *elements = at;
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
    float *g, *b, *dg, *db; /* [C]; NULL at post-norm's site 0, which has no norm */
    Tensor x;               /* [n, C] the stream's dtype */
    Tensor h;               /* [n, C] compute */
    float *mean, *rstd;     /* [n] */
} Site;

typedef struct Layer {
    Affine affine[N_AFFINE];
    Attention attention; /* all but B, T and dropout */
    Tensor qkv;          /* [n, 3, NH, HS] */
    Tensor att;          /* [n, NH, HS] */
    float *lse;          /* [B, NH, T] */
    Tensor fc, gelu;     /* [n, inner] before and after GELU */
} Layer;

struct Gpt {
    ModelConfig c;
    GptOptions o;
    const Ops *ops;
    bool post_norm;
    int64_t rows; /* the largest n: B * T */
    int64_t Vp;   /* vocabulary in memory */
    Dtype active; /* of activations */
    Dtype stream; /* of the residual stream and the logits */
    GptMemory memory;
    void *owned[5]; /* what gpt_free releases */

    Param *table;
    int n_params;
    int64_t elements;
    float *w, *dw;    /* [elements] */
    uint16_t *mirror; /* [elements] or NULL */
    float *wte, *wpe, *dwte, *dwpe;
    Layer *layer; /* [L] */
    Site *site;   /* [2L + 1] */
    Affine head;

    int32_t *tokens, *targets, *pos, *slot, *best; /* [rows] */
    float *loss;                                   /* [rows] */
    double *loss_sum;                              /* of the micro steps of a step */
    /* What all layers share: the output of a block and its gradient, the MLP's hidden layer after GELU unless it is
     * kept, the gradients of the stream, of an operand h, and of the widest tensor in a layer. */
    Tensor delta, gelu, dx, dh, wide;
    Graph *graph;   /* chains of ops that come again and again: micro steps, decoding steps */
    int64_t passes; /* backward passes so far */
    Tensor logits, dlogits, decoded;
    int64_t chunk, decode_rows; /* rows of logits, and of those that go to the host */
};

/* One run over the model. */
typedef struct Pass {
    const Batch *batch; /* NULL when serving */
    KvCache *kv;        /* NULL unless serving */
    int64_t n;          /* rows: tokens in all */
    int B, T;
    bool train;      /* dropout, and a backward pass follows */
    bool accumulate; /* gradients add */
    float scale;     /* of the loss in the gradients */
} Pass;

/* ---- the pass: forward --------------------------------------------------------------------------------- */

/* The places where dropout acts, as numbers for the generator. */
enum { DROP_EMBEDDING, DROP_ATTENTION, DROP_ATTENTION_OUT, DROP_MLP_OUT };
static uint32_t drop_site(int l, int which) {
    return (uint32_t)(3 * l + which);
}

static Dropout dropout(const Pass *p, double probability, uint32_t site) {
    if (!p->train) return (Dropout){0};
    const Batch *b = p->batch;
    return (Dropout){(float)probability, b->seed, b->step, site, b->first_row * (uint64_t)b->T};
}

/* Of the delta that comes into site k: from attention if k is odd, from an MLP if it is even. */
static Dropout site_dropout(const Gpt *m, const Pass *p, int k) {
    if (k == 0) return (Dropout){0};
    return dropout(p, m->c.resid_pdrop, drop_site((k - 1) / 2, k % 2 ? DROP_ATTENTION_OUT : DROP_MLP_OUT));
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

static void embed(Gpt *m, const Pass *p) {
    m->ops->embed_forward(carried(m, 0), m->tokens, p->kv ? m->pos : NULL, m->wte, m->wpe, p->n, p->T,
                          m->c.n_embd, dropout(p, m->c.embd_pdrop, DROP_EMBEDDING));
}

/* h_k = norm(x_k), for an x_k that stands. */
static void site_norm(Gpt *m, const Pass *p, int k) {
    Site *s = &m->site[k];
    if (!s->g) return;
    m->ops->norm_forward(s->h, NO_TENSOR, s->mean, s->rstd, s->x, NO_TENSOR, s->g, s->b,
                         (float)m->c.layer_norm_epsilon, p->n, m->c.n_embd, (Dropout){0});
}

/* x_k = carried + dropout(delta), h_k = norm(x_k), in one sweep. */
static void site_forward(Gpt *m, const Pass *p, int k) {
    Site *s = &m->site[k];
    m->ops->norm_forward(s->h, s->x, s->mean, s->rstd, carried(m, k - 1), m->delta, s->g, s->b,
                         (float)m->c.layer_norm_epsilon, p->n, m->c.n_embd, site_dropout(m, p, k));
}

/* y (and pre) = act(x W + b), for one of layer l's four. */
static void affine_forward(Gpt *m, const Pass *p, int l, int which, Tensor y, Tensor pre, Tensor x, Act act) {
    const Affine *a = &m->layer[l].affine[which];
    m->ops->linear_forward(y, pre, x, a->linear, a->b, act, p->n);
}

static void attention_forward(Gpt *m, const Pass *p, int l) {
    const Layer *y = &m->layer[l];
    const Attention a = attention_of(m, p, l);
    const KvCache *kv = p->kv;
    affine_forward(m, p, l, QKV, y->qkv, NO_TENSOR, m->site[2 * l].h, ACT_NONE);
    if (kv)
        m->ops->attention_cached(y->att, y->qkv, kv->k[l], kv->v[l], kv->capacity, m->slot, m->pos, p->n, &a);
    else
        m->ops->attention_forward(y->att, y->lse, y->qkv, &a);
    affine_forward(m, p, l, OUT, m->delta, NO_TENSOR, y->att, ACT_NONE);
}

static void mlp_up(Gpt *m, const Pass *p, int l) {
    Tensor pre = p->train ? m->layer[l].fc : NO_TENSOR;
    affine_forward(m, p, l, FC, m->layer[l].gelu, pre, m->site[2 * l + 1].h, ACT_GELU);
}

static void mlp_down(Gpt *m, const Pass *p, int l) {
    affine_forward(m, p, l, DOWN, m->delta, NO_TENSOR, m->layer[l].gelu, ACT_NONE);
}

static void forward(Gpt *m, const Pass *p) {
    embed(m, p);
    site_norm(m, p, 0);
    for (int l = 0; l < m->c.n_layer; l++) {
        attention_forward(m, p, l);
        site_forward(m, p, 2 * l + 1);
        mlp_up(m, p, l);
        mlp_down(m, p, l);
        site_forward(m, p, 2 * l + 2);
    }
}

/* n rows in as even chunks as can be. */
static int64_t chunk_of(const Gpt *m, int64_t n) {
    int64_t chunks = (n + m->chunk - 1) / m->chunk, even = round_up((n + chunks - 1) / chunks, 16);
    return even < m->chunk ? even : m->chunk;
}

static Tensor final_hidden(const Gpt *m, int64_t row) {
    return tensor_at(m->site[2 * m->c.n_layer].h, row * m->c.n_embd);
}

/* Logits of rows lo .. lo + n of the last hidden state. */
static void head_forward(Gpt *m, Tensor logits, int64_t lo, int64_t n) {
    m->ops->linear_forward(logits, NO_TENSOR, final_hidden(m, lo), m->head.linear, NULL, ACT_NONE, n);
}

/* The loss of every row, and if training the gradients of the head and of the last hidden state, by chunks of
 * rows: the logits never exist whole. */
static void classify(Gpt *m, const Pass *p, int32_t *best) {
    int64_t chunk = chunk_of(m, p->n);
    for (int64_t lo = 0; lo < p->n; lo += chunk) {
        int64_t n = lo + chunk < p->n ? chunk : p->n - lo;
        head_forward(m, m->logits, lo, n);
        m->ops->classifier(p->train ? m->dlogits : NO_TENSOR, m->loss + lo, best ? best + lo : NULL,
                           m->logits, m->targets + lo, p->scale, n, m->c.vocab_size, m->Vp);
        if (p->train)
            m->ops->linear_backward(tensor_at(m->dh, lo * m->c.n_embd), m->dlogits, final_hidden(m, lo),
                                    NO_TENSOR, ACT_NONE, false, m->head.linear, NULL, p->accumulate || lo > 0,
                                    n);
    }
}

/* ---- the pass: backward -------------------------------------------------------------------------------- */

/* In: m->dx, the gradient that reaches the stream from above (none at the top), and m->dh, that of h_k. Out:
 * m->dx below the site, and m->delta, the gradient of the delta that came into it. */
static void site_backward(Gpt *m, const Pass *p, int k) {
    Site *s = &m->site[k];
    Tensor from_above = k == 2 * m->c.n_layer ? NO_TENSOR : m->dx;
    if (!s->g) return;
    m->ops->norm_backward(m->dx, k ? m->delta : NO_TENSOR, from_above, m->dh, s->x, s->mean, s->rstd, s->g,
                          s->dg, s->db, p->accumulate, m->post_norm, p->n, m->c.n_embd,
                          site_dropout(m, p, k));
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
    m->ops->linear_backward(m->wide, m->delta, y->gelu, y->fc, ACT_GELU, again, a->linear, a->db,
                            p->accumulate, p->n);
    affine_backward(m, p, l, FC, m->dh, m->wide, m->site[2 * l + 1].h);
}

static void attention_backward(Gpt *m, const Pass *p, int l) {
    const Layer *y = &m->layer[l];
    const Attention a = attention_of(m, p, l);
    affine_backward(m, p, l, OUT, m->dh, m->delta, y->att);
    m->ops->attention_backward(m->wide, m->dh, y->att, y->qkv, y->lse, &a);
    affine_backward(m, p, l, QKV, m->dh, m->wide, m->site[2 * l].h);
}

/* Fill the shared buffers again with what layer l's backward reads: the operands h, and when blocks are recomputed
 * all but what site 2l carried. The very same calls give the very same bits. The last layer's buffers still stand,
 * and pre-norm's next site kept its own x: there the last product is not needed. */
static void layer_again(Gpt *m, const Pass *p, int l) {
    bool blocks = m->o.recompute == RECOMPUTE_BLOCK;
    if (!m->o.recompute) return;
    if (!blocks || !m->post_norm) site_norm(m, p, 2 * l);
    if (!blocks || l == m->c.n_layer - 1) {
        site_norm(m, p, 2 * l + 1);
        return;
    }
    attention_forward(m, p, l);
    site_forward(m, p, 2 * l + 1);
    mlp_up(m, p, l);
    if (!m->post_norm) return;
    mlp_down(m, p, l);
    site_forward(m, p, 2 * l + 2);
}

static void embed_backward(Gpt *m, const Pass *p) {
    const int64_t C = m->c.n_embd;
    if (!p->accumulate) {
        m->ops->zero(m->dwpe, (size_t)(m->c.n_positions * C) * sizeof(float));
        if (m->dwte != NULL && !m->c.tie_word_embeddings)
            m->ops->zero(m->dwte, (size_t)(m->Vp * C) * sizeof(float));
    }
    m->ops->embed_backward(m->dwte, m->dwpe, m->dx, m->post_norm ? m->dh : NO_TENSOR, m->tokens, p->n, p->T,
                           C, true, dropout(p, m->c.embd_pdrop, DROP_EMBEDDING));
}

static void backward(Gpt *m, const Pass *p) {
    int L = (int)m->c.n_layer;
    for (int l = L - 1; l >= 0; l--) {
        layer_again(m, p, l);
        site_backward(m, p, 2 * l + 2);
        mlp_backward(m, p, l);
        site_backward(m, p, 2 * l + 1);
        attention_backward(m, p, l);
    }
    site_backward(m, p, 0);
    embed_backward(m, p);
}

/* ---- training and scoring ------------------------------------------------------------------------------ */

static void upload_tokens(Gpt *m, int32_t *dst, const int32_t *src, int64_t n, int32_t least) {
    for (int64_t i = 0; i < n; i++)
        CHECK(src[i] >= least && src[i] < m->c.vocab_size, "token %d of a vocabulary of %d", src[i],
              (int)m->c.vocab_size);
    m->ops->to_device(dst, src, (size_t)n * sizeof *src);
}

static Pass pass_over(Gpt *m, const Batch *b) {
    Pass p = {.batch = b, .n = (int64_t)b->B * b->T, .B = b->B, .T = b->T};
    CHECK(p.n > 0 && p.n <= m->rows && b->T <= m->c.n_positions, "batch of %d x %d", b->B, b->T);
    upload_tokens(m, m->tokens, b->tokens, p.n, 0);
    upload_tokens(m, m->targets, b->targets, p.n, -1);
    return p;
}

/* Of a chain of ops that is the same where these four are. */
static uint64_t chain_key(const uint64_t part[4]) {
    uint64_t key = 0;
    for (int i = 0; i < 4; i++) key = (key ^ part[i]) * 0x9e3779b97f4a7c15u, key ^= key >> 32;
    return key;
}

void gpt_forward_backward(Gpt *m, const Batch *b, float scale, bool accumulate) {
    CHECK(m->o.train);
    Pass p = pass_over(m, b);
    p.train = true, p.scale = scale, p.accumulate = accumulate;
    /* Without dropout a micro step is the same chain of ops each time. The first is not recorded: there a back end
     * finds its best algorithms. */
    const bool again =
        m->passes++ > 0 && !(m->c.embd_pdrop > 0 || m->c.resid_pdrop > 0 || m->c.attn_pdrop > 0);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    if (again && m->ops->replay(&m->graph, chain_key((const uint64_t[]){(uint64_t)b->B, (uint64_t)b->T, bits,
                                                                        accumulate})))
        return;
    forward(m, &p);
    classify(m, &p, NULL);
    backward(m, &p);
    m->ops->sum(m->loss_sum, m->loss, p.n, accumulate);
    if (again) m->ops->replay_end(&m->graph);
}

const double *gpt_loss_sum(const Gpt *m) {
    return m->loss_sum;
}

void gpt_losses(Gpt *m, const Batch *b, float *loss, int32_t *best) {
    Pass p = pass_over(m, b);
    forward(m, &p);
    classify(m, &p, best ? m->best : NULL);
    m->ops->to_host(loss, m->loss, (size_t)p.n * sizeof *loss);
    if (best) m->ops->to_host(best, m->best, (size_t)p.n * sizeof *best);
}

/* ---- serving ------------------------------------------------------------------------------------------- */

/* Of the keys, or of the values, of one layer; a multiple of 64 bytes. */
static int64_t kv_elements(const ModelConfig *c, int slots, int64_t capacity) {
    return round_up(slots * c->n_embd * capacity, 32);
}

size_t kv_bytes(const ModelConfig *c, Dtype d, int slots, int64_t capacity) {
    return (size_t)(2 * c->n_layer * kv_elements(c, slots, capacity)) * dtype_size(d);
}

bool kv_create(KvCache *kv, const Gpt *m, int slots, int64_t capacity, Err *e) {
    *kv = (KvCache){.slots = slots, .capacity = capacity, .ops = m->ops};
    kv->memory = m->ops->alloc(kv_bytes(&m->c, m->active, slots, capacity), "key/value cache", e);
    if (!kv->memory) return false;
    int64_t each = kv_elements(&m->c, slots, capacity), L = m->c.n_layer;
    kv->k = xcalloc((size_t)L, sizeof *kv->k);
    kv->v = xcalloc((size_t)L, sizeof *kv->v);
    for (int64_t l = 0; l < L; l++) {
        kv->k[l] = tensor_at(tensor(kv->memory, m->active), 2 * l * each);
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

void gpt_decode(Gpt *m, KvCache *kv, const int32_t *tokens, const int32_t *slot, const int32_t *pos, int n,
                const int32_t *want, int n_want, float *logits) {
    const int64_t V = m->c.vocab_size;
    Pass p = {.kv = kv, .n = n, .B = n, .T = 1};
    CHECK(n > 0 && n <= m->rows, "%d tokens for a model made for %d", n, (int)m->rows);
    for (int i = 0; i < n; i++)
        CHECK(slot[i] >= 0 && slot[i] < kv->slots && pos[i] >= 0 && pos[i] < kv->capacity &&
                  pos[i] < m->c.n_positions,
              "position %d of slot %d", pos[i], slot[i]);
    upload_tokens(m, m->tokens, tokens, n, 0);
    m->ops->to_device(m->slot, slot, (size_t)n * sizeof *slot);
    m->ops->to_device(m->pos, pos, (size_t)n * sizeof *pos);
    for (int i = 0; i < n_want; i++) CHECK(want[i] >= 0 && want[i] < n);
    /* A step of decoding is the same chain of ops as the one before: one token of each sequence, all wanted. */
    const bool step = n_want == n && n <= m->decode_rows && run_length(want, n, n) == n && want[0] == 0;
    if (!step || !m->ops->replay(&m->graph, chain_key((const uint64_t[]){
                                                (uint64_t)(uintptr_t)kv->memory, (uint64_t)kv->slots,
                                                (uint64_t)kv->capacity, (uint64_t)n}))) {
        forward(m, &p);
        if (step) head_forward(m, m->decoded, 0, n), m->ops->replay_end(&m->graph);
    }
    for (int i = 0, k; i < n_want; i += k) {
        k = run_length(want + i, n_want - i, m->decode_rows);
        if (!step) head_forward(m, m->decoded, want[i], k);
        for (int j = 0; j < k; j++)
            m->ops->to_host(logits + (i + j) * V, (float *)m->decoded.p + j * m->Vp,
                            (size_t)V * sizeof *logits);
    }
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

/* Hands out pieces of memory. Run once without memory it measures; run again with that much it places. */
typedef struct Plan {
    char *base;
    size_t used;
} Plan;

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

/* Sites keep what backward does not make again: every x and h; every x; or, when blocks are recomputed, what each
 * layer starts from. Shared buffers go by parity, so that a site never overwrites what the site before it carries. */
static void plan_sites(Gpt *m, Plan *keep, Plan *work) {
    const int64_t n = m->rows * m->c.n_embd;
    const bool blocks = m->o.recompute == RECOMPUTE_BLOCK, every_x = m->o.train && !blocks,
               every_h = m->o.train && m->o.recompute == RECOMPUTE_NONE;
    Tensor x[2], h[2];
    for (int i = 0; i < 2; i++) {
        x[i] = every_x ? tensor(NULL, m->stream) : plan_tensor(work, n, m->stream);
        h[i] = every_h ? tensor(NULL, m->active) : plan_tensor(work, n, m->active);
    }
    for (int64_t k = 0; k <= 2 * m->c.n_layer; k++) {
        Site *s = &m->site[k];
        const bool first = k == 0, layer_input = m->o.train && k % 2 == 0;
        if (!first || !m->post_norm)
            s->x = plan_kept(keep, every_x || (layer_input && !m->post_norm), x[k % 2], n);
        s->h = plan_kept(keep, every_h || (layer_input && m->post_norm && (blocks || first)), h[k % 2], n);
        s->mean = plan_take(keep, m->rows, sizeof(float));
        s->rstd = plan_take(keep, m->rows, sizeof(float));
    }
}

static bool keeps_gelu(const Gpt *m) {
    return m->o.train && m->o.recompute == RECOMPUTE_NONE;
}

static void plan_layers(Gpt *m, Plan *keep, Plan *work) {
    const int64_t C = m->rows * m->c.n_embd, F = m->rows * model_inner(&m->c), NH = m->rows * m->c.n_head;
    const Dtype d = m->active;
    const bool own = m->o.train && m->o.recompute != RECOMPUTE_BLOCK;
    Layer shared = {.qkv = {.dtype = d}, .att = {.dtype = d}, .fc = {.dtype = d}};
    if (!own) {
        shared.qkv = plan_tensor(work, 3 * C, d);
        shared.att = plan_tensor(work, C, d);
        shared.lse = plan_take(work, NH, sizeof(float));
        if (m->o.train) shared.fc = plan_tensor(work, F, d);
    }
    for (int64_t l = 0; l < m->c.n_layer; l++) {
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

static void plan_scratch(Gpt *m, Plan *work) {
    const int64_t C = m->c.n_embd, F = model_inner(&m->c), n = m->rows;
    const Dtype d = m->active;
    const bool train = m->o.train;
    int32_t **ids[] = {&m->tokens, &m->targets, &m->pos, &m->slot, &m->best};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) *ids[i] = plan_take(work, n, sizeof **ids[i]);
    m->loss = plan_take(work, n, sizeof(float));
    m->loss_sum = plan_take(work, 1, sizeof(double));
    if (train) m->dh = plan_tensor(work, n * C, d);
    /* Logits stand in the place of what only layers use. Those that go to the host are fp32, so there may be fewer. */
    const size_t mark = work->used;
    m->decoded = plan_tensor(work, m->decode_rows * m->Vp, DT_F32);
    work->used = mark;
    m->logits = plan_tensor(work, m->chunk * m->Vp, m->stream);
    if (train) m->dlogits = d == m->stream ? m->logits : plan_tensor(work, m->chunk * m->Vp, d);
    if (work->used < mark + (size_t)(m->decode_rows * m->Vp) * sizeof(float))
        work->used = mark + (size_t)(m->decode_rows * m->Vp) * sizeof(float);
    const size_t end = work->used;
    work->used = mark;
    m->delta = plan_tensor(work, n * C, d);
    m->gelu = keeps_gelu(m) ? tensor(NULL, d) : plan_tensor(work, n * F, d);
    if (train) m->dx = plan_tensor(work, n * C, m->stream);
    if (train) m->wide = plan_tensor(work, n * (F > 3 * C ? F : 3 * C), d);
    if (work->used < end) work->used = end;
}

static void plan_buffers(Gpt *m, Plan *keep, Plan *work) {
    plan_scratch(m, work);
    plan_sites(m, keep, work);
    plan_layers(m, keep, work);
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
    return p && m->dw ? m->dw + p->at : NULL;
}

static LinearSpec linear_spec(const Gpt *m, int64_t layer, int role) {
    static float not_yet; /* while only measuring: a gradient, and a mirror, will be there */
    static uint16_t no_copy_yet;
    const Param *p = find(m, layer, role);
    LinearSpec s = {.in = p->shape[0], .out = p->shape[1], .compute = m->o.compute, .max_rows = m->rows};
    if (p->split == SPLIT_VOCAB) s.out_major = true, s.in = p->shape[1], s.out = m->Vp, s.max_rows = m->chunk;
    if (p->split == SPLIT_VOCAB) s.compute = m->active; /* fp8 would cost the loss more than it saves */
    s.w = weight(m, layer, role);
    s.copy = m->mirror ? m->mirror + p->at : m->ops->mirror(m->o.compute) ? &no_copy_yet : NULL;
    s.dw = m->o.train && !m->dw ? &not_yet : gradient(m, layer, role);
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
        for (int i = 0; i < N_AFFINE; i++)
            if (!make_affine(m, &m->layer[l].affine[i], l, affine_role[i], e)) return false;
    if (m->c.tie_word_embeddings) return make_affine(m, &m->head, -1, WTE, e);
    return make_affine(m, &m->head, m->c.n_layer, HEAD_W, e);
}

static void bind_embeddings(Gpt *m) {
    m->wte = weight(m, -1, WTE), m->dwte = gradient(m, -1, WTE);
    m->wpe = weight(m, -1, WPE), m->dwpe = gradient(m, -1, WPE);
}

/* The model's norms in order, two a layer and then ln_f, stand at the sites in order, post-norm's from site 1
 * on. */
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

/* Everything about the model but its memory. */
static Gpt *describe(const ModelConfig *c, const GptOptions *o) {
    CHECK(c->vocab_size > 0 && c->n_layer > 0 && o->B > 0 && o->T > 0);
    Gpt *m = xcalloc(1, sizeof *m);
    m->c = *c, m->o = *o, m->ops = o->ops;
    m->post_norm = is_post_norm(c);
    m->rows = (int64_t)o->B * o->T;
    m->Vp = round_up(c->vocab_size, VOCAB_MULTIPLE);
    m->active = dtype_of_tensors(o->compute);
    m->stream = o->ops->stream(o->compute);
    m->chunk = logits_rows(m);
    m->decode_rows = m->chunk * (int64_t)dtype_size(m->stream) / (int64_t)sizeof(float);
    if (m->decode_rows < 1) m->decode_rows = 1;
    m->table = gpt_params(c, o, &m->n_params, &m->elements);
    m->layer = xcalloc((size_t)c->n_layer, sizeof *m->layer);
    m->site = xcalloc((size_t)(2 * c->n_layer + 1), sizeof *m->site);
    for (int l = 0; l < c->n_layer; l++) {
        LayerKind kind = layer_kind(c, l);
        m->layer[l].attention = (Attention){.NH = (int)c->n_head,
                                            .NH_total = (int)c->n_head,
                                            .HS = (int)(c->n_embd / c->n_head),
                                            .window = kind.window,
                                            .scale = kind.scale};
    }
    Plan keep = {0}, work = {0};
    plan_buffers(m, &keep, &work);
    make_affines(m, NULL);
    m->memory.weights = (size_t)m->elements * sizeof(float);
    m->memory.mirror = o->ops->mirror(o->compute) ? (size_t)m->elements * sizeof *m->mirror : 0;
    m->memory.gradients = o->train ? m->memory.weights : 0;
    m->memory.activations = keep.used;
    m->memory.workspace = work.used;
    return m;
}

bool gpt_memory(const ModelConfig *c, const GptOptions *o, GptMemory *mem, Err *e) {
    if (!model_check(c, "model", e)) return false;
    Gpt *m = describe(c, o);
    *mem = m->memory;
    gpt_free(m);
    return true;
}

Gpt *gpt_create(const ModelConfig *c, const GptOptions *o, Err *e) {
    if (!model_check(c, "model", e)) return NULL;
    Gpt *m = describe(c, o);
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
        m->w = m->owned[0], m->dw = m->owned[1], m->mirror = m->owned[4];
        plan_buffers(m, &(Plan){.base = m->owned[2]}, &(Plan){.base = m->owned[3]});
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
    free(m);
}

void gpt_weights_changed(Gpt *m, bool mirrored) {
    for (int64_t l = 0; l < m->c.n_layer; l++)
        for (int i = 0; i < N_AFFINE; i++) m->ops->linear_refresh(m->layer[l].affine[i].linear, mirrored);
    m->ops->linear_refresh(m->head.linear, mirrored);
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
float *gpt_gradients(const Gpt *m) {
    return m->dw;
}
uint16_t *gpt_mirror(const Gpt *m) {
    return m->mirror;
}
int64_t gpt_elements(const Gpt *m) {
    return m->elements;
}

/* ---- initial weights ----------------------------------------------------------------------------------- */

/* By pieces that stay in a core's cache, so that the memory is written once and by all threads. */
static void init_param(Gpt *m, const Param *p, uint64_t seed, uint64_t row) {
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < p->count; at += PIECE) {
        float piece[PIECE];
        int64_t n = p->count - at < PIECE ? p->count - at : PIECE;
        if (p->init == INIT_NORMAL)
            rand_normals(piece, (size_t)n, p->std, seed, RAND_INIT, row, (uint64_t)at);
        else
            for (int64_t i = 0; i < n; i++) piece[i] = p->init == INIT_ONE;
        m->ops->to_device(m->w + p->at + at, piece, (size_t)n * sizeof *piece);
    }
}

void gpt_init(Gpt *m, uint64_t seed) {
    for (int i = 0; i < m->n_params; i++) init_param(m, &m->table[i], seed, (uint64_t)i);
    gpt_weights_changed(m, false);
}
