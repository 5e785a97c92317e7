/* optim.c - floor 4: see optim.h. */
#include "optim.h"

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
    o->verdict = take(base, &used, 1, sizeof *o->verdict);
    o->squares = take(base, &used, 1, sizeof *o->squares);
    o->part_squares = take(base, &used, MUON_PARTS, sizeof *o->part_squares);
    for (int i = 0; i < 2; i++) {
        o->x[i] = take(base, &used, widest, sizeof **o->x);
        o->gram[i] = take(base, &used, gram, sizeof **o->gram);
    }
    return used;
}

size_t optim_bytes(const Config *c) {
    Optim o = {0};
    int n;
    Param *table = gpt_params(&c->model, NULL, &n, &o.elements);
    const size_t bytes = place(&o, table, n, is_muon(c), NULL);
    free(table);
    return bytes;
}

bool optim_create(Optim *o, const Gpt *m, const Config *c, Err *e) {
    int n;
    const Param *table = gpt_table(m, &n);
    *o = (Optim){.ops = gpt_options(m)->ops, .elements = gpt_elements(m)};
    o->memory = o->ops->alloc(place(o, table, n, is_muon(c), NULL), "optimizer state", e);
    if (o->memory) place(o, table, n, is_muon(c), o->memory);
    return o->memory != NULL;
}

void optim_free(Optim *o) {
    if (o->memory) o->ops->release(o->memory);
    *o = (Optim){0};
}

void optim_judge(Optim *o, const Gpt *m, const Config *c, double scale, double worst) {
    o->ops->sum_squares(o->squares, gpt_gradients(m), o->elements, false);
    o->ops->judge(o->verdict, gpt_loss_sum(m), o->squares, scale, worst, c->optimizer.max_grad_norm);
}

Verdict optim_verdict(const Optim *o) {
    Verdict v;
    o->ops->to_host(&v, o->verdict, sizeof v);
    return v;
}

/* All rows with this decay in one sweep: they stand together in memory, and what lies between them is padding: zeros,
 * and stays zeros. */
static void adamw_rows(Optim *o, Gpt *m, bool decay, AdamW a) {
    int n;
    const Param *table = gpt_table(m, &n);
    uint16_t *mirror = gpt_mirror(m);
    int64_t at = o->adamw, end = 0;
    for (const Param *p = table; p < table + n; p++) {
        if (p->decay != decay || p->at >= o->adamw) continue;
        if (p->at < at) at = p->at;
        if (p->at + p->padded > end) end = p->at + p->padded;
    }
    a.first = (uint64_t)at;
    o->ops->adamw(gpt_weights(m) + at, o->m + at, o->v + at, gpt_gradients(m) + at,
                  mirror ? mirror + at : NULL, end - at, &a, o->verdict);
}

static void adamw_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    AdamW a = {.lr = (float)lr,
               .beta1 = (float)c->optimizer.betas[0],
               .beta2 = (float)c->optimizer.betas[1],
               .eps = (float)c->optimizer.eps,
               .step = step,
               .stochastic = c->optimizer.stochastic_rounding,
               .seed = (uint64_t)c->train.seed};
    adamw_rows(o, m, false, a);
    a.weight_decay = (float)c->optimizer.weight_decay;
    adamw_rows(o, m, true, a);
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
        const float *g = gpt_gradients(m) + p->at;
        a.size = 0.2f * sqrtf((float)(a.rows > a.cols ? a.rows : a.cols));
        o->ops->muon_momentum(o->part_squares, o->m + p->at, g, &a, o->verdict);
        o->ops->muon_direction(o->x[0], o->m + p->at, g, o->part_squares, &a, o->verdict);
        o->ops->muon_update(gpt_weights(m) + p->at, mirror ? mirror + p->at : NULL, orthogonalise(o, &a), &a,
                            o->verdict);
    }
}

void optim_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    muon_step(o, m, c, lr, step);
    adamw_step(o, m, c, lr, step);
    gpt_weights_changed(m, gpt_mirror(m) != NULL);
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
