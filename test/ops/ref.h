/* ref.h - the ops of ops.h as their definitions say, in double, one loop per sum: what every back end is held
 * against. Shapes as in ops.h; everything is double; absent tensors are NULL. */
#ifndef GPT_REF_H
#define GPT_REF_H

#include "ops.h"

double ref_round(double x, Dtype d);           /* to the nearest bf16; fp32: as it is */
double ref_keep(const Dropout *d, uint64_t i); /* element i's factor: 0 or 1 / (1 - p) */

void ref_linear_forward(double *y, double *pre, const double *x, const double *w, const double *bias, Act act,
                        const LinearSpec *s, int64_t n);
void ref_linear_backward(double *dx, double *dw, double *dbias, const double *dy, const double *x,
                         const double *pre, const double *w, Act act, const LinearSpec *s, bool accumulate,
                         int64_t n);
void ref_norm_forward(double *h, double *x_out, double *mean, double *rstd, const double *x_in,
                      const double *delta, const double *g, const double *b, double eps, int64_t n, int64_t C,
                      Dropout drop);
void ref_norm_backward(double *dx, double *ddelta, double *dg, double *db, const double *dx_in,
                       const double *dh, const double *x, const double *mean, const double *rstd,
                       const double *g, bool accumulate, bool post, int64_t n, int64_t C, Dropout drop);
void ref_attention_forward(double *out, double *lse, const double *qkv, const Attention *a);
void ref_attention_backward(double *dqkv, const double *dout, const double *out, const double *qkv,
                            const Attention *a);
void ref_attention_cached(double *out, double *k, double *v, const double *qkv, int64_t capacity,
                          const int32_t *slot, const int32_t *pos, int64_t n, const Attention *a);
void ref_embed_forward(double *x, const int32_t *tokens, const int32_t *pos, const double *wte,
                       const double *wpe, int64_t n, int64_t T, int64_t C, Dropout drop);
void ref_embed_backward(double *dwte, double *dwpe, const double *dx, const double *dh, const int32_t *tokens,
                        int64_t n, int64_t T, int64_t C, bool accumulate, Dropout drop);
void ref_classifier(double *dlogits, double *loss, double *best, const double *logits, const int32_t *targets,
                    double scale, int64_t n, int64_t V, int64_t Vp);
uint64_t ref_checksum(const uint32_t *x, int64_t n);
void ref_adamw(double *w, double *m, double *v, const double *g, double grad_scale, int64_t n,
               const AdamW *a);

void ref_muon_momentum(double *squares, double *m, const double *g, double grad_scale, const Muon *a);
void ref_muon_direction(double *x, const double *m, const double *g, const double *squares, double grad_scale,
                        const Muon *a);
void ref_muon_update(double *w, const double *x, const Muon *a);
typedef struct RefMatrices {
    double *p;
    int64_t row, step;
} RefMatrices;
void ref_matmul(RefMatrices c, RefMatrices a, RefMatrices b, RefMatrices add, const Matmul *m);

#endif
