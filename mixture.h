/* mixture.h - floor 1: how much of each source a run reads, and how that changes with what is learnt: the
 * arithmetic.
 *
 * Time goes in intervals. At the start of one, weights become whole numbers of rows (mixture_deal); at its
 * end losses of held-out text come in, and new weights go out (mixture_update). All there is to a mixture is
 * in the struct. */
#ifndef GPT_MIXTURE_H
#define GPT_MIXTURE_H

#include "util.h"

enum { MIXTURE_MOST = 32 };

/* STATIC: the weights that were given. STRATIFIED: equal shares, the control that no adaptive rule beats
 * always (Chen et al. 2024, "Aioli").
 *
 * VALIDATION: more of what is still badly known. Held-out losses, scaled so that the least is 0 and the
 * largest 1, are the rewards: weight ~ prior * exp(rate * reward), so at rate 1 no source gains more than e
 * over another.
 *
 * DOREMI (Xie et al. 2023): more of where a reference model is ahead. The reward is the excess loss, the
 * mean over tokens of max(loss - reference's loss, 0): weight *= exp(rate * reward), scaled to 1, then mixed
 * with `smoothing` of even shares. The average of the weights over the run is what DoReMi hands to a larger
 * model.
 *
 * EXP3 (Auer et al. 2002; for data: Albalak et al. 2023): a bandit. Each time one source, drawn by the
 * weights, is looked at: reward = loss / log(vocabulary), divided by the chance that it was drawn, so that
 * sums are right on average though the others were not seen. weight = (1 - n x) p + x, p ~ prior * exp(rate *
 * eta * sums), with eta = sqrt(log n / (n t)) at time t, which needs no horizon (Bubeck and Cesa-Bianchi
 * 2012, theorem 3.1), and exploration x = min(1/n, eta), but not below the floor. */
typedef enum { MIX_STATIC, MIX_STRATIFIED, MIX_VALIDATION, MIX_DOREMI, MIX_EXP3, MIX_RULES } MixRule;
extern const char *const mix_names[MIX_RULES];

typedef struct Mixture {
    MixRule rule;
    int n;
    double rate, smoothing; /* see above */
    double floor;           /* VALIDATION, EXP3: no weight is less; n * floor <= 1 */
    double most_loss;       /* EXP3: log(vocabulary) */
    double prior[MIXTURE_MOST];
    uint64_t most[MIXTURE_MOST]; /* rows that a source may give in all */

    double weight[MIXTURE_MOST];                       /* >= 0, of sum 1 */
    double reward[MIXTURE_MOST];                       /* of the last update; EXP3: their sums */
    double owed[MIXTURE_MOST];                         /* what whole rows have left undone so far */
    uint64_t given[MIXTURE_MOST], quota[MIXTURE_MOST]; /* rows: before this interval; in it */
    uint64_t time;                                     /* updates so far */
} Mixture;

/* Weights from the priors (of any sum). The fields above `weight` have been set. */
void mixture_init(Mixture *m);
/* EXP3: the source to look at now; else -1, all. */
int mixture_arm(const Mixture *m, uint64_t seed);
/* New weights from held-out losses in nats a token (DOREMI: excess losses); of EXP3, that of its arm alone is
 * read. */
void mixture_update(Mixture *m, const double *loss, uint64_t seed);
/* The next interval, of so many rows: quotas of that sum, none beyond what a source may still give. Rows that
 * a cap takes from one go to the others by their weights; what rounding takes is owed, and given later.
 * CHECKs that there are enough. */
void mixture_deal(Mixture *m, uint64_t rows);
uint64_t mixture_left(const Mixture *m); /* rows that all may give after this interval; UINT64_MAX: no end */

#endif
