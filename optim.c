/* optim.c - floor 4: see optim.h. */
#include "optim.h"

#include "trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_muon(const Config *c) {
    return !strcmp(c->optimizer.name, "muon");
}

static void *take(char *base, size_t *used, int64_t n, size_t size) {
    void *at = base ? base + *used : NULL;
    *used += ((size_t)n * size + 255) & ~(size_t)255;
    return at;
}

/* Measures what o needs for this table, or with memory places it there. Returns the bytes. */
static size_t place(Optim *o, const Param *p, int n, bool muon, char *base) {
    int64_t widest = 0, gram = 0;
    size_t used = 0;
    o->adamw = o->elements;
    for (int i = 0; i < n && muon; i++) {
        if (!p[i].parts) continue;
        const int64_t cols = p[i].shape[1] / p[i].parts, side = p[i].shape[0] < cols ? p[i].shape[0] : cols;
        if (p[i].count > widest) widest = p[i].count;
        if (p[i].parts * side * side > gram) gram = p[i].parts * side * side;
        if (p[i].at < o->adamw) o->adamw = p[i].at;
    }
    o->m = take(base, &used, o->elements, sizeof *o->m);
    o->v = take(base, &used, o->adamw, sizeof *o->v);
    o->judged = take(base, &used, 1, sizeof *o->judged);
    o->part_squares = take(base, &used, MUON_PARTS, sizeof *o->part_squares);
    for (int i = 0; i < 2; i++) {
        o->x[i] = take(base, &used, widest, sizeof **o->x);
        o->gram[i] = take(base, &used, gram, sizeof **o->gram);
    }
    return used;
}

size_t optim_bytes(const Config *c, const GptOptions *options) {
    Optim o = {0};
    int n;
    Param *table = gpt_params(&c->model, options, &n, &o.elements);
    if (options && options->zero && options->grid.dp > 1) o.elements /= options->grid.dp;
    const size_t bytes = place(&o, table, n, is_muon(c), NULL);
    free(table);
    return bytes;
}

bool optim_create(Optim *o, const Gpt *m, const Config *c, Err *e) {
    int n;
    const Param *table = gpt_table(m, &n);
    const GptOptions *g = gpt_options(m);
    *o = (Optim){.ops = g->ops};
    o->owned = gpt_owned(m, g->grid.dp_rank, &o->n_owned, &o->elements);
    o->counted = gpt_counted(m, &o->n_counted);
    if (is_muon(c) && (g->grid.tp > 1 || (g->zero && g->grid.dp > 1)))
        return err_usage(e,
                         "config: optimizer.name=muon steps whole matrices: parallel.tensor must be 1, and "
                         "parallel.zero 0");
    o->memory = o->ops->alloc(place(o, table, n, is_muon(c), NULL), "optimizer state", e);
    if (o->memory) place(o, table, n, is_muon(c), o->memory);
    return o->memory != NULL;
}

void optim_free(Optim *o) {
    if (o->memory) o->ops->release(o->memory);
    free(o->owned);
    free(o->counted);
    *o = (Optim){0};
}

void optim_judge(Optim *o, const Gpt *m, const Config *c, double scale, double worst, double vote) {
    Judged *j = o->judged;
    Comm *comm = gpt_options(m)->comm;
    o->ops->copy(&j->losses, gpt_loss_sum(m), sizeof j->losses);
    if (!o->n_counted) o->ops->zero(&j->squares, sizeof j->squares);
    for (int i = 0; i < o->n_counted; i++)
        o->ops->sum_squares(&j->squares, gpt_gradient_at(m, o->counted[i].at), o->counted[i].n, i > 0);
    o->ops->to_device(&j->votes, &vote, sizeof vote);
    if (comm) comm_all_reduce(comm, GROUP_WORLD, &j->losses, 3, WIRE_F64, NOW);
    o->ops->judge(&j->verdict, &j->losses, &j->squares, scale, worst, c->optimizer.max_grad_norm);
}

Verdict optim_verdict(const Optim *o) {
    Verdict v;
    o->ops->to_host(&v, &o->judged->verdict, sizeof v);
    return v;
}

/* The first element that decays: they stand together in memory, after those that do not. What lies between parameters is
 * padding: zeros, and stays zeros. */
static int64_t first_decaying(const Gpt *m) {
    int n;
    const Param *table = gpt_table(m, &n);
    int64_t at = gpt_elements(m);
    for (const Param *p = table; p < table + n; p++)
        if (p->decay && p->at < at) at = p->at;
    return at;
}

/* AdamW on elements [from, to) of an owned range whose state begins at `state`. */
static void adamw_run(Optim *o, Gpt *m, const Range *r, int64_t state, int64_t from, int64_t to, AdamW a) {
    uint16_t *mirror = gpt_mirror(m);
    if (from < r->at) from = r->at;
    if (to > r->at + r->n) to = r->at + r->n;
    if (from >= to) return;
    a.first = (uint64_t)from;
    state += from - r->at;
    o->ops->adamw(gpt_weights(m) + from, o->m + state, o->v + state, gpt_gradient_at(m, from),
                  mirror ? mirror + from : NULL, to - from, &a, &o->judged->verdict);
}

static void adamw_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    AdamW a = {.lr = (float)lr,
               .beta1 = (float)c->optimizer.betas[0],
               .beta2 = (float)c->optimizer.betas[1],
               .eps = (float)c->optimizer.eps,
               .step = step,
               .stochastic = c->optimizer.stochastic_rounding,
               .seed = (uint64_t)c->train.seed};
    AdamW decaying = a;
    decaying.weight_decay = (float)c->optimizer.weight_decay;
    const int64_t decay = first_decaying(m), end = o->adamw < o->elements ? o->adamw : gpt_elements(m);
    int64_t state = 0;
    for (const Range *r = o->owned; r < o->owned + o->n_owned; state += r->n, r++) {
        adamw_run(o, m, r, state, 0, decay, a);
        adamw_run(o, m, r, state, decay, end, decaying);
    }
}

/* ---- muon (Jordan et al. 2024) ----------------------------------------------------------------------------
 * A weight W moves along the orthogonal matrix nearest to its momentum U: with U = P S Q^T (singular values S), along
 * P Q^T. Newton-Schulz finds it by products alone: X <- a X + b (X X^T) X + c (X X^T)^2 X takes each singular value s
 * to a s + b s^3 + c s^5, and these coefficients are so steep at 0 that five rounds bring all from 0.0015 to 1 to between
 * 0.68 and 1.21; nearer is not needed. The squares are taken on the short side of X: X^T X if it is tall. A matrix
 * [r, c] with r <= c takes 5 (4 r^2 c + 2 r^3) FLOPs, at most 5 r / t of what t tokens take in it, forward and backward. */
enum { ROUNDS = 5 };
static const float NS_A = 3.4445f, NS_B = -4.7750f, NS_C = 2.0315f;

/* From o->x[0]; returns the buffer where the result stands. */
static const uint16_t *orthogonalise(Optim *o, const Muon *a) {
    const bool tall = a->rows > a->cols;
    const int64_t side = tall ? a->cols : a->rows, row = a->parts * a->cols;
    const Matmul square = {a->parts, side, side, tall ? a->rows : a->cols, tall, !tall, 1, 0};
    const Matmul polynomial = {a->parts, side, side, side, false, false, NS_C, NS_B};
    const Matmul apply = {a->parts, a->rows, a->cols, side, false, false, 1, NS_A};
    const Matrices s = {o->gram[0], side, side * side}, p = {o->gram[1], side, side * side};
    for (int i = 0; i < ROUNDS; i++) {
        const Matrices x = {o->x[i % 2], row, a->cols}, y = {o->x[(i + 1) % 2], row, a->cols};
        o->ops->matmul(s, x, x, NULL, &square);
        o->ops->matmul(p, s, s, s.p, &polynomial); /* b S + c S S */
        o->ops->matmul(y, tall ? x : p, tall ? p : x, x.p, &apply);
    }
    return o->x[ROUNDS % 2];
}

/* The update's root mean square is made 0.2, about that of AdamW's (Liu et al. 2025, section 2.2): an orthogonal matrix
 * has 1 / sqrt of its longer side. So a learning rate, its schedule, and the decay that suit one suit the other. */
static void muon_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    int n;
    const Param *table = gpt_table(m, &n);
    uint16_t *mirror = gpt_mirror(m);
    if (o->adamw == o->elements) return; /* else this rank owns all weights, and state stands as they do */
    for (const Param *p = table; p < table + n; p++) {
        if (p->at < o->adamw) continue;
        Muon a = {.rows = p->shape[0],
                  .cols = p->shape[1] / p->parts,
                  .parts = p->parts,
                  .momentum = (float)c->optimizer.muon_momentum,
                  .lr = (float)(lr * c->optimizer.muon_lr_ratio),
                  .weight_decay = (float)c->optimizer.weight_decay,
                  .step = step,
                  .stochastic = c->optimizer.stochastic_rounding,
                  .seed = (uint64_t)c->train.seed,
                  .first = (uint64_t)p->at};
        const float *g = gpt_gradient_at(m, p->at);
        a.size = 0.2f * sqrtf((float)(a.rows > a.cols ? a.rows : a.cols));
        o->ops->muon_momentum(o->part_squares, o->m + p->at, g, &a, &o->judged->verdict);
        o->ops->muon_direction(o->x[0], o->m + p->at, g, o->part_squares, &a, &o->judged->verdict);
        o->ops->muon_update(gpt_weights(m) + p->at, mirror ? mirror + p->at : NULL, orthogonalise(o, &a), &a,
                            &o->judged->verdict);
    }
}

void optim_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    const double from = now_seconds();
    muon_step(o, m, c, lr, step);
    adamw_step(o, m, c, lr, step);
    gpt_weights_share(m, false);
    gpt_weights_changed(m, gpt_mirror(m) != NULL);
    trace_span("passes", "optimizer", from, now_seconds());
}

double lr_at(const Config *c, int64_t step) {
    double lr = c->optimizer.lr, min = c->lr_schedule.min_lr;
    int64_t warmup = c->lr_schedule.warmup_steps, end = c->train.max_steps,
            decay = c->lr_schedule.decay_steps;
    const char *name = c->lr_schedule.name;
    if (step < warmup) return lr * (double)step / (double)warmup;
    if (!strcmp(name, "constant")) return lr;
    int64_t from = !strcmp(name, "wsd") ? end - decay : warmup; /* the last step at the full rate */
    if (step <= from) return lr;
    double left = step < end ? (double)(end - step) / (double)(end - from) : 0; /* from 1 to 0 */
    if (!strcmp(name, "cosine")) return min + (lr - min) * (1 - cos(M_PI * left)) / 2;
    return min + (lr - min) * left;
}
