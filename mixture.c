/* mixture.c - floor 1: see mixture.h. */
#include "mixture.h"

#include <math.h>
#include <string.h>

const char *const mix_names[MIX_RULES] = {"static", "stratified", "validation", "doremi", "exp3"};

static void scale_to_one(double *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* weight ~ base * exp(z), of sum 1; without overflow for any z. weight may be base. */
static void exponential(double *weight, const double *base, const double *z, int n) {
    double top = z[0];
    for (int i = 1; i < n; i++) top = z[i] > top ? z[i] : top;
    for (int i = 0; i < n; i++) weight[i] = base[i] * exp(z[i] - top);
    scale_to_one(weight, n);
}

/* Every source gets `least`, and the rest goes by weight. */
static void lift(double *weight, double least, int n) {
    for (int i = 0; i < n; i++) weight[i] = (1 - n * least) * weight[i] + least;
}

void mixture_init(Mixture *m) {
    CHECK(m->n > 0 && m->n <= MIXTURE_MOST && m->n * m->floor <= 1 + 1e-9);
    for (int i = 0; i < m->n; i++) m->weight[i] = m->rule == MIX_STRATIFIED ? 1 : m->prior[i];
    scale_to_one(m->weight, m->n);
    memcpy(m->prior, m->weight, sizeof m->prior);
}

/* ---- the rules ------------------------------------------------------------------------------------------- */

static void by_validation(Mixture *m, const double *loss) {
    double low = loss[0], high = loss[0], z[MIXTURE_MOST] = {0};
    for (int i = 1; i < m->n; i++) low = fmin(low, loss[i]), high = fmax(high, loss[i]);
    for (int i = 0; i < m->n; i++) {
        m->reward[i] = high > low ? (loss[i] - low) / (high - low) : 0;
        z[i] = m->rate * m->reward[i];
    }
    exponential(m->weight, m->prior, z, m->n);
    lift(m->weight, m->floor, m->n);
}

static void by_excess(Mixture *m, const double *excess) {
    double z[MIXTURE_MOST] = {0};
    for (int i = 0; i < m->n; i++) m->reward[i] = excess[i], z[i] = m->rate * excess[i];
    exponential(m->weight, m->weight, z, m->n);
    lift(m->weight, m->smoothing / m->n, m->n);
}

int mixture_arm(const Mixture *m, uint64_t seed) {
    if (m->rule != MIX_EXP3) return -1;
    double u = rand_uniform(seed, RAND_MIX, m->time, 0);
    int arm = 0;
    while (arm < m->n - 1 && (u -= m->weight[arm]) >= 0) arm++;
    return arm;
}

static void by_bandit(Mixture *m, const double *loss, uint64_t seed) {
    const int arm = mixture_arm(m, seed), n = m->n;
    const double t = (double)m->time + 1, eta = n > 1 ? sqrt(log(n) / (n * t)) : 0;
    double z[MIXTURE_MOST] = {0};
    m->reward[arm] += fmin(loss[arm] / m->most_loss, 1) / m->weight[arm];
    for (int i = 0; i < n; i++) z[i] = m->rate * eta * m->reward[i];
    exponential(m->weight, m->prior, z, n);
    lift(m->weight, fmin(1.0 / n, fmax(m->floor, eta)), n);
}

void mixture_update(Mixture *m, const double *loss, uint64_t seed) {
    switch (m->rule) {
    case MIX_VALIDATION: by_validation(m, loss); break;
    case MIX_DOREMI: by_excess(m, loss); break;
    case MIX_EXP3: by_bandit(m, loss, seed); break;
    default: break;
    }
    m->time++;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

static uint64_t may_give(const Mixture *m, int i) {
    return m->most[i] - m->given[i];
}

uint64_t mixture_left(const Mixture *m) {
    uint64_t left = 0;
    for (int i = 0; i < m->n; i++) {
        if (m->most[i] == UINT64_MAX) return UINT64_MAX;
        left += may_give(m, i) - m->quota[i];
    }
    return left;
}

/* Shares of the rows by weight. One that is more than its source may give is cut to that, which makes the
 * others' larger: until none is cut. */
static void share_out(const Mixture *m, uint64_t rows, double *share) {
    bool closed[MIXTURE_MOST] = {false}, again = true;
    double left = (double)rows;
    while (again) {
        double sum = 0, open = 0, cut = 0;
        for (int i = 0; i < m->n; i++) sum += closed[i] ? 0 : m->weight[i], open += !closed[i];
        again = false;
        for (int i = 0; i < m->n; i++) {
            if (closed[i]) continue;
            share[i] = left * (sum > 0 ? m->weight[i] / sum : 1 / open);
            if (share[i] < (double)may_give(m, i)) continue;
            share[i] = (double)may_give(m, i);
            cut += share[i];
            closed[i] = again = true;
        }
        left -= cut;
    }
}

/* The source that is owed most (sign 1) and may give more, or least (-1) and gives some. */
static int furthest(const Mixture *m, const double *want, int sign) {
    int best = -1;
    for (int i = 0; i < m->n; i++) {
        if (sign > 0 ? m->quota[i] >= may_give(m, i) : m->quota[i] == 0) continue;
        if (best < 0 || sign * (want[i] - (double)m->quota[i]) > sign * (want[best] - (double)m->quota[best]))
            best = i;
    }
    CHECK(best >= 0, "no source can give another row");
    return best;
}

void mixture_deal(Mixture *m, uint64_t rows) {
    double want[MIXTURE_MOST];
    int64_t missing = (int64_t)rows;
    CHECK(rows <= mixture_left(m), "%llu rows are left", (unsigned long long)mixture_left(m));
    for (int i = 0; i < m->n; i++) m->given[i] += m->quota[i];
    share_out(m, rows, want);
    for (int i = 0; i < m->n; i++) {
        want[i] += m->owed[i];
        m->quota[i] = want[i] < 0 ? 0 : (uint64_t)want[i];
        if (m->quota[i] > may_give(m, i)) m->quota[i] = may_give(m, i);
        missing -= (int64_t)m->quota[i];
    }
    for (; missing > 0; missing--) m->quota[furthest(m, want, 1)]++;
    for (; missing < 0; missing++) m->quota[furthest(m, want, -1)]--;
    for (int i = 0; i < m->n; i++) /* a source that is used up is owed nothing */
        m->owed[i] = m->quota[i] == may_give(m, i) ? 0 : want[i] - (double)m->quota[i];
}
