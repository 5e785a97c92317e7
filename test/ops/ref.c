/* ref.c - see ref.h. Plain on purpose: this is where the meaning of an op is read. */
#include "ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double ref_round(double x, Dtype d) {
    if (dtype_size(d) == 4 || isnan(x) || x == 0) return x;
    int e;
    double m = frexp(x, &e);
    return ldexp(rint(m * 256), e - 8); /* 8 bits of significand, ties to even */
}

double ref_keep(const Dropout *d, uint64_t i) {
    uint32_t word[4];
    if (d->p == 0) return 1;
    philox4x32(d->seed, (uint64_t)RAND_DROPOUT << 40 | d->step << 12 | d->site, i / 4, word);
    return word[i % 4] >= (double)d->p * 4294967296.0 ? 1 / (1 - (double)d->p) : 0;
}

/* ---- linear ---------------------------------------------------------------------------------------------- */

static double ref_gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double ref_gelu_grad(double x) {
    double t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

static int64_t weight_at(const LinearSpec *s, int64_t i, int64_t o) {
    return s->out_major ? o * s->in + i : i * s->out + o;
}

/* A copy, each number rounded to the operands' dtype. */
static double *operand(const double *x, int64_t n, Dtype d) {
    double *r = xmalloc((size_t)n * sizeof *r);
    for (int64_t i = 0; i < n; i++) r[i] = ref_round(x[i], d);
    return r;
}

void ref_linear_forward(double *y, double *pre, const double *x, const double *w, const double *bias, Act act,
                        const LinearSpec *s, int64_t n) {
    double *xr = operand(x, n * s->in, s->compute), *wr = operand(w, s->in * s->out, s->compute);
    for (int64_t r = 0; r < n; r++)
        for (int64_t o = 0; o < s->out; o++) {
            double sum = bias ? bias[o] : 0;
            for (int64_t i = 0; i < s->in; i++) sum += xr[r * s->in + i] * wr[weight_at(s, i, o)];
            if (pre) pre[r * s->out + o] = sum;
            y[r * s->out + o] = act == ACT_GELU ? ref_gelu(sum) : sum;
        }
    free(xr), free(wr);
}

void ref_linear_backward(double *dx, double *dw, double *dbias, const double *dy, const double *x,
                         const double *pre, const double *w, Act act, const LinearSpec *s, bool accumulate,
                         int64_t n) {
    double *xr = operand(x, n * s->in, s->compute), *wr = operand(w, s->in * s->out, s->compute);
    double *dyr = operand(dy, n * s->out, s->compute);
    if (!accumulate) memset(dw, 0, (size_t)(s->in * s->out) * sizeof *dw);
    if (dbias && !accumulate) memset(dbias, 0, (size_t)s->out * sizeof *dbias);
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < s->in; i++) {
            double sum = 0;
            for (int64_t o = 0; o < s->out; o++) {
                sum += dyr[r * s->out + o] * wr[weight_at(s, i, o)];
                dw[weight_at(s, i, o)] += dyr[r * s->out + o] * xr[r * s->in + i];
            }
            if (dx) dx[r * s->in + i] = sum * (act == ACT_GELU ? ref_gelu_grad(pre[r * s->in + i]) : 1);
        }
        for (int64_t o = 0; dbias && o < s->out; o++) dbias[o] += dy[r * s->out + o];
    }
    free(xr), free(wr), free(dyr);
}

/* ---- residual + norm ------------------------------------------------------------------------------------- */

void ref_norm_forward(double *h, double *x_out, double *mean, double *rstd, const double *x_in,
                      const double *delta, const double *g, const double *b, double eps, int64_t n, int64_t C,
                      Dropout drop) {
    double *x = xmalloc((size_t)C * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        double m = 0, var = 0;
        for (int64_t c = 0; c < C; c++) {
            const uint64_t at = (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c;
            x[c] = x_in[i * C + c] + (delta ? delta[i * C + c] * ref_keep(&drop, at) : 0);
            if (delta) x_out[i * C + c] = x[c];
            m += x[c] / (double)C;
        }
        if (!g) continue;
        for (int64_t c = 0; c < C; c++) var += (x[c] - m) * (x[c] - m) / (double)C;
        mean[i] = m, rstd[i] = 1 / sqrt(var + eps);
        for (int64_t c = 0; c < C; c++) h[i * C + c] = (x[c] - m) * rstd[i] * g[c] + b[c];
    }
    free(x);
}

void ref_norm_backward(double *dx, double *ddelta, double *dg, double *db, const double *dx_in,
                       const double *dh, const double *x, const double *mean, const double *rstd,
                       const double *g, bool accumulate, bool post, int64_t n, int64_t C, Dropout drop) {
    if (g && !accumulate) memset(dg, 0, (size_t)C * sizeof *dg), memset(db, 0, (size_t)C * sizeof *db);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0, sum_x = 0;
#define ABOVE(c) (dx_in ? dx_in[i * C + (c)] : 0)
#define HAT(c)   ((x[i * C + (c)] - mean[i]) * rstd[i])
#define OUTER(c) ((dh ? dh[i * C + (c)] : 0) + (post ? ABOVE(c) : 0))
        for (int64_t c = 0; g && c < C; c++) {
            dg[c] += OUTER(c) * HAT(c), db[c] += OUTER(c);
            sum += OUTER(c) * g[c] / (double)C, sum_x += OUTER(c) * g[c] * HAT(c) / (double)C;
        }
        for (int64_t c = 0; c < C; c++) {
            double d = g ? rstd[i] * (OUTER(c) * g[c] - sum - HAT(c) * sum_x) : OUTER(c);
            if (!post) d += ABOVE(c);
            const uint64_t at = (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c;
            dx[i * C + c] = d;
            if (ddelta) ddelta[i * C + c] = d * ref_keep(&drop, at);
        }
#undef ABOVE
#undef HAT
#undef OUTER
    }
}

/* ---- attention ------------------------------------------------------------------------------------------- */

static int64_t qkv_at(const Attention *a, int64_t b, int64_t t, int which, int64_t h) {
    return (((b * a->T + t) * 3 + which) * a->NH + h) * a->HS;
}

static double keep_at(const Attention *a, int64_t b, int64_t h, int64_t t, int64_t s) {
    const uint64_t T = (uint64_t)a->T, T4 = (T + 3) / 4 * 4;
    const uint64_t seq = a->drop.row0 / T + (uint64_t)b, head = (uint64_t)(a->head0 + h);
    return ref_keep(&a->drop, ((seq * (uint64_t)a->NH_total + head) * T + (uint64_t)t) * T4 + (uint64_t)s);
}

static double ref_dot(const double *x, const double *y, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

static int64_t first_key(const Attention *a, int64_t t) {
    return a->window && t >= a->window ? t - a->window + 1 : 0;
}

void ref_attention_forward(double *out, double *lse, const double *qkv, const Attention *a) {
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->NH; h++)
            for (int64_t t = 0; t < a->T; t++) {
                const double *q = qkv + qkv_at(a, b, t, 0, h);
                double sum = 0, *o = out + ((b * a->T + t) * a->NH + h) * a->HS;
                memset(o, 0, (size_t)a->HS * sizeof *o);
                for (int64_t s = first_key(a, t); s <= t; s++)
                    sum += exp(a->scale * ref_dot(q, qkv + qkv_at(a, b, s, 1, h), a->HS));
                for (int64_t s = first_key(a, t); s <= t; s++) {
                    double p = exp(a->scale * ref_dot(q, qkv + qkv_at(a, b, s, 1, h), a->HS)) / sum;
                    for (int64_t c = 0; c < a->HS; c++)
                        o[c] += p * keep_at(a, b, h, t, s) * qkv[qkv_at(a, b, s, 2, h) + c];
                }
                lse[(b * a->NH + h) * a->T + t] = log(sum);
            }
}

/* With P the probabilities, M the dropout's factors: dV = (M P)^T dO; dP = M dO V^T; dS = P (dP - D), where D, the
 * sum of P dP, equals that of O dO (Dao et al. 2022). */
void ref_attention_backward(double *dqkv, const double *dout, const double *out, const double *qkv,
                            const Attention *a) {
    double *p = xmalloc(2 * (size_t)a->T * sizeof *p), *dp = p + a->T;
    memset(dqkv, 0, (size_t)((int64_t)a->B * a->T * 3 * a->NH * a->HS) * sizeof *dqkv);
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->NH; h++)
            for (int64_t t = 0; t < a->T; t++) {
                const double *q = qkv + qkv_at(a, b, t, 0, h),
                             *o = dout + ((b * a->T + t) * a->NH + h) * a->HS;
                double sum = 0;
                const double D = ref_dot(o, out + ((b * a->T + t) * a->NH + h) * a->HS, a->HS);
                for (int64_t s = first_key(a, t); s <= t; s++)
                    sum += p[s] = exp(a->scale * ref_dot(q, qkv + qkv_at(a, b, s, 1, h), a->HS));
                for (int64_t s = first_key(a, t); s <= t; s++) {
                    p[s] /= sum;
                    dp[s] = keep_at(a, b, h, t, s) * ref_dot(o, qkv + qkv_at(a, b, s, 2, h), a->HS);
                }
                for (int64_t s = first_key(a, t); s <= t; s++) {
                    const double ds = p[s] * (dp[s] - D) * a->scale, pm = p[s] * keep_at(a, b, h, t, s);
                    for (int64_t c = 0; c < a->HS; c++) {
                        dqkv[qkv_at(a, b, t, 0, h) + c] += ds * qkv[qkv_at(a, b, s, 1, h) + c];
                        dqkv[qkv_at(a, b, s, 1, h) + c] += ds * q[c];
                        dqkv[qkv_at(a, b, s, 2, h) + c] += pm * o[c];
                    }
                }
            }
    free(p);
}

void ref_attention_cached(double *out, double *k, double *v, const double *qkv, int64_t capacity,
                          const int32_t *slot, const int32_t *pos, int64_t n, const Attention *a) {
    const int64_t HS = a->HS;
    for (int64_t i = 0; i < n; i++)
        for (int64_t h = 0; h < a->NH; h++)
            for (int64_t c = 0; c < HS; c++) {
                const int64_t at = ((slot[i] * a->NH + h) * capacity + pos[i]) * HS + c;
                k[at] = qkv[((i * 3 + 1) * a->NH + h) * HS + c];
                v[at] = qkv[((i * 3 + 2) * a->NH + h) * HS + c];
            }
    for (int64_t i = 0; i < n; i++)
        for (int64_t h = 0; h < a->NH; h++) {
            const double *q = qkv + (i * 3 * a->NH + h) * HS, *kh = k + (slot[i] * a->NH + h) * capacity * HS;
            const double *vh = v + (slot[i] * a->NH + h) * capacity * HS;
            double sum = 0, *o = out + (i * a->NH + h) * HS;
            memset(o, 0, (size_t)HS * sizeof *o);
            for (int64_t s = first_key(a, pos[i]); s <= pos[i]; s++) {
                double p = exp(a->scale * ref_dot(q, kh + s * HS, HS));
                for (int64_t c = 0; c < HS; c++) o[c] += p * vh[s * HS + c];
                sum += p;
            }
            for (int64_t c = 0; c < HS; c++) o[c] /= sum;
        }
}

/* ---- embedding ------------------------------------------------------------------------------------------- */

void ref_embed_forward(double *x, const int32_t *tokens, const int32_t *pos, const double *wte,
                       const double *wpe, int64_t n, int64_t T, int64_t C, Dropout drop) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++)
            x[i * C + c] = ((tokens[i] < 0 ? 0 : wte[tokens[i] * C + c]) +
                            (wpe ? wpe[(pos ? pos[i] : i % T) * C + c] : 0)) *
                           ref_keep(&drop, (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c);
}

void ref_embed_backward(double *dwte, double *dwpe, const double *dx, const double *dh, const int32_t *tokens,
                        int64_t n, int64_t T, int64_t C, bool accumulate, Dropout drop) {
    if (dwpe && !accumulate) memset(dwpe, 0, (size_t)(T * C) * sizeof *dwpe);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++) {
            double d = (dx[i * C + c] + (dh ? dh[i * C + c] : 0)) *
                       ref_keep(&drop, (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c);
            if (dwte && tokens[i] >= 0) dwte[tokens[i] * C + c] += d;
            if (dwpe) dwpe[i % T * C + c] += d;
        }
}

/* ---- classifier and optimizer ---------------------------------------------------------------------------- */

void ref_classifier(double *dlogits, double *loss, double *best, const double *logits, const int32_t *targets,
                    double scale, int64_t n, int64_t V, int64_t Vp) {
    for (int64_t i = 0; i < n; i++) {
        const double *z = logits + i * Vp;
        int64_t top = 0;
        double sum = 0;
        for (int64_t c = 1; c < V; c++)
            if (z[c] > z[top]) top = c;
        for (int64_t c = 0; c < V; c++) sum += exp(z[c] - z[top]);
        best[i] = (double)top;
        loss[i] = targets[i] < 0 ? 0 : log(sum) + z[top] - z[targets[i]];
        for (int64_t c = 0; dlogits && c < Vp; c++)
            dlogits[i * Vp + c] =
                targets[i] < 0 || c >= V ? 0 : (exp(z[c] - z[top]) / sum - (c == targets[i])) * scale;
    }
}

uint64_t ref_checksum(const uint32_t *x, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t z = x[i] + ((uint64_t)i << 32);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        sum += z ^ z >> 31;
    }
    return sum;
}

void ref_adamw(double *w, double *m, double *v, const double *g, double grad_scale, int64_t n,
               const AdamW *a) {
    for (int64_t i = 0; i < n; i++) {
        double d = g[i] * grad_scale;
        m[i] = a->beta1 * m[i] + (1 - (double)a->beta1) * d;
        v[i] = a->beta2 * v[i] + (1 - (double)a->beta2) * d * d;
        double mh = m[i] / (1 - pow(a->beta1, (double)a->step)),
               vh = v[i] / (1 - pow(a->beta2, (double)a->step));
        w[i] -= a->lr * (mh / (sqrt(vh) + a->eps) + a->weight_decay * w[i]);
    }
}

static double muon_u(const double *m, const double *g, int64_t i, double grad_scale, const Muon *a) {
    return a->momentum * m[i] + (1 - (double)a->momentum) * grad_scale * g[i];
}

void ref_muon_momentum(double *squares, double *m, const double *g, double grad_scale, const Muon *a) {
    for (int64_t part = 0; part < a->parts; part++) squares[part] = 0;
    for (int64_t i = 0; i < a->rows * a->parts * a->cols; i++) {
        m[i] = muon_u(m, g, i, grad_scale, a);
        squares[i / a->cols % a->parts] += pow(muon_u(m, g, i, grad_scale, a), 2);
    }
}

void ref_muon_direction(double *x, const double *m, const double *g, const double *squares, double grad_scale,
                        const Muon *a) {
    for (int64_t i = 0; i < a->rows * a->parts * a->cols; i++) {
        const double all = squares[i / a->cols % a->parts];
        x[i] = all > 0 ? muon_u(m, g, i, grad_scale, a) / sqrt(all) : 0;
    }
}

void ref_muon_update(double *w, const double *x, const Muon *a) {
    for (int64_t i = 0; i < a->rows * a->parts * a->cols; i++)
        w[i] -= a->lr * (a->size * x[i] + a->weight_decay * w[i]);
}

static double number(RefMatrices m, int64_t i, int64_t r, int64_t c, bool turned) {
    return m.p[i * m.step + (turned ? c : r) * m.row + (turned ? r : c)];
}

void ref_matmul(RefMatrices c, RefMatrices a, RefMatrices b, RefMatrices add, const Matmul *m) {
    for (int64_t i = 0; i < m->batch; i++)
        for (int64_t r = 0; r < m->M; r++)
            for (int64_t n = 0; n < m->N; n++) {
                double sum = 0;
                for (int64_t k = 0; k < m->K; k++)
                    sum += number(a, i, r, k, m->turn_a) * number(b, i, k, n, m->turn_b);
                c.p[i * c.step + r * c.row + n] =
                    m->alpha * sum + (m->beta != 0 ? m->beta * number(add, i, r, n, false) : 0);
            }
}
