/* test_mixture.c - mixture.c: the rules against values by hand, and what holds whatever comes in. */
#include "mixture.h"
#include "test.h"

#include <math.h>

static Mixture mixture(MixRule rule, int n) {
    Mixture m = {.rule = rule, .n = n, .rate = 1, .smoothing = 1e-3, .floor = 0.02, .most_loss = log(4096)};
    for (int i = 0; i < n; i++) m.prior[i] = 1, m.most[i] = UINT64_MAX;
    return m;
}

static bool near(double a, double b) {
    return fabs(a - b) < 1e-12;
}

static double sum_of(const Mixture *m) {
    double sum = 0;
    for (int i = 0; i < m->n; i++) sum += m->weight[i];
    return sum;
}

TEST(mixture_static_and_stratified_stay) {
    const double loss[] = {1, 5};
    for (int rule = MIX_STATIC; rule <= MIX_STRATIFIED; rule++) {
        Mixture m = mixture((MixRule)rule, 2);
        m.prior[1] = 3;
        mixture_init(&m);
        mixture_update(&m, loss, 0);
        EXPECT(near(m.weight[1], rule == MIX_STATIC ? 0.75 : 0.5) && near(sum_of(&m), 1));
    }
}

/* Losses 2, 3, 4: rewards 0, 1/2, 1; with priors 2:1:1, weights 2 : e^(1/2) : e, then the floor. */
TEST(mixture_validation_by_hand) {
    const double loss[] = {2, 3, 4}, z = 2 + exp(0.5) + exp(1);
    Mixture m = mixture(MIX_VALIDATION, 3);
    m.prior[0] = 2;
    mixture_init(&m);
    for (int i = 0; i < 2; i++) { /* no memory: the same again */
        mixture_update(&m, loss, 0);
        EXPECT(m.reward[0] == 0 && m.reward[1] == 0.5 && m.reward[2] == 1);
        EXPECT(near(m.weight[0], 0.94 * 2 / z + 0.02) && near(m.weight[1], 0.94 * exp(0.5) / z + 0.02));
        EXPECT(near(m.weight[2], 0.94 * exp(1) / z + 0.02));
    }
    mixture_update(&m, (double[]){3, 3, 3}, 0); /* nothing to tell them apart by: the priors */
    EXPECT(near(m.weight[0], 0.94 / 2 + 0.02) && near(m.weight[1], m.weight[2]));
    m.rate = 1e6;
    mixture_update(&m, loss, 0);
    EXPECT(near(m.weight[0], 0.02) && near(m.weight[2], 0.96), "%g", m.weight[2]);
}

/* Even at first; excess losses log 2 and 0: 2 : 1, twice: 4 : 1, but for the smoothing. */
TEST(mixture_doremi_by_hand) {
    const double excess[] = {log(2), 0};
    Mixture m = mixture(MIX_DOREMI, 2);
    mixture_init(&m);
    mixture_update(&m, excess, 0);
    const double a = 0.999 * 2 / 3 + 0.0005, b = 2 * a / (2 * a + 1 - a);
    EXPECT(near(m.weight[0], a) && near(sum_of(&m), 1), "%.17g", m.weight[0]);
    mixture_update(&m, excess, 0);
    EXPECT(near(m.weight[0], 0.999 * b + 0.0005), "%.17g", m.weight[0]);
    for (int i = 0; i < 1000; i++) mixture_update(&m, excess, 0);
    EXPECT(m.weight[0] > 0.99 && m.weight[1] >= 0.0005, "%g", m.weight[1]);
    for (int i = 0; i < 20; i++) mixture_update(&m, (double[]){0, log(2)}, 0); /* and it comes back */
    EXPECT(m.weight[1] > 0.9, "%g", m.weight[1]);
}

TEST(mixture_exp3_by_hand) {
    Mixture m = mixture(MIX_EXP3, 2);
    mixture_init(&m);
    EXPECT(mixture_arm(&(Mixture){.rule = MIX_DOREMI, .n = 2}, 7) == -1);
    m.time = 99, m.floor = 0; /* eta = sqrt(log 2 / 200) */
    const int arm = mixture_arm(&m, 7);
    mixture_update(&m, (double[]){log(64), log(64)}, 7); /* half the worst loss, over a chance of a half */
    const double eta = sqrt(log(2) / 200), p = exp(eta) / (exp(eta) + 1);
    EXPECT(near(m.reward[arm], 1) && m.reward[!arm] == 0);
    EXPECT(near(m.weight[arm], (1 - 2 * eta) * p + eta), "%.17g", m.weight[arm]);
}

/* Two arms out of five are worth more than the others, one most; it must be found, whatever the seed. */
TEST(mixture_exp3_finds_the_better_arm) {
    const double worth[] = {3, 3, 6, 4, 3};
    for (uint64_t seed = 0; seed < 20; seed++) {
        Mixture m = mixture(MIX_EXP3, 5);
        int drawn[5] = {0};
        m.floor = 0.01, m.rate = 4;
        mixture_init(&m);
        for (int t = 0; t < 3000; t++) {
            double loss[5];
            const int arm = mixture_arm(&m, seed);
            for (int i = 0; i < 5; i++)
                loss[i] = worth[i] + rand_uniform(seed, RAND_TEST, (uint64_t)t, (uint64_t)i) - 0.5;
            drawn[arm]++;
            mixture_update(&m, loss, seed);
            EXPECT(near(sum_of(&m), 1));
            for (int i = 0; i < 5; i++) EXPECT(m.weight[i] >= 0.01 - 1e-12);
        }
        for (int i = 0; i < 5; i++)
            EXPECT(i == 2 || (m.weight[2] > 2 * m.weight[i] && drawn[2] > drawn[i]), "seed %d: %g, %d: %g",
                   (int)seed, m.weight[2], i, m.weight[i]);
    }
}

/* Of so many draws by weights 1:2:5, each source gets its share, to within four standard deviations. */
TEST(mixture_arm_is_drawn_by_weight) {
    enum { DRAWS = 8000 };
    Mixture m = mixture(MIX_EXP3, 3);
    int drawn[3] = {0};
    m.prior[1] = 2, m.prior[2] = 5;
    mixture_init(&m);
    for (m.time = 0; m.time < DRAWS; m.time++) drawn[mixture_arm(&m, 1)]++;
    for (int i = 0; i < 3; i++) {
        const double p = m.weight[i], sd = sqrt(DRAWS * p * (1 - p));
        EXPECT(fabs(drawn[i] - DRAWS * p) < 4 * sd, "%d: %d", i, drawn[i]);
    }
}

static uint64_t all_rows(const Mixture *m) {
    uint64_t sum = 0;
    for (int i = 0; i < m->n; i++) sum += m->quota[i];
    return sum;
}

/* A source of one row in 200 gets its turn, though an interval is 7 rows; no source is ever two rows from its
 * share. */
TEST(mixture_deal_owes_nothing) {
    Mixture m = mixture(MIX_STATIC, 4);
    const double prior[] = {1, 40, 59, 100};
    for (int i = 0; i < 4; i++) m.prior[i] = prior[i];
    mixture_init(&m);
    for (int k = 1; k <= 1000; k++) {
        mixture_deal(&m, 7);
        EXPECT(all_rows(&m) == 7);
        for (int i = 0; i < 4; i++) {
            const double got = (double)(m.given[i] + m.quota[i]);
            EXPECT(fabs(got - 7.0 * k * prior[i] / 200) < 2, "%d after %d: %g", i, k, got);
        }
    }
    EXPECT(m.given[0] + m.quota[0] == 35 && mixture_left(&m) == UINT64_MAX);
}

/* Caps hold to the row, and what they take goes to the others by weight, down to the very last row. */
TEST(mixture_deal_keeps_caps) {
    Mixture m = mixture(MIX_STATIC, 3);
    m.prior[0] = 6, m.prior[1] = 3;
    m.most[0] = 25, m.most[1] = 50, m.most[2] = 45;
    mixture_init(&m);
    mixture_deal(&m, 30);
    EXPECT(m.quota[0] == 18 && m.quota[1] == 9 && m.quota[2] == 3);
    mixture_deal(&m, 30); /* 7 are left of the first; the other 23 go 3 : 1 */
    EXPECT(m.quota[0] == 7 && m.quota[1] == 17 && m.quota[2] == 6, "%d %d", (int)m.quota[0], (int)m.quota[1]);
    EXPECT(mixture_left(&m) == 60);
    mixture_deal(&m, 60);
    EXPECT(m.quota[0] == 0 && m.quota[1] == 24 && m.quota[2] == 36 && mixture_left(&m) == 0);
}

/* Weights, floors, sums and caps under losses at random. */
TEST(mixture_holds_whatever_comes) {
    for (int rule = 0; rule < MIX_RULES; rule++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            const int n = 1 + (int)(seed % 6);
            Mixture m = mixture((MixRule)rule, n);
            for (int i = 0; i < n; i++) m.prior[i] = 1 + i, m.most[i] = (uint64_t)(i ? 400 * i : 1000);
            mixture_init(&m);
            for (uint64_t t = 0; mixture_left(&m) >= 13; t++) {
                double loss[MIXTURE_MOST];
                for (int i = 0; i < n; i++) loss[i] = 12 * rand_uniform(seed, RAND_TEST, t, (uint64_t)i);
                mixture_deal(&m, 13);
                mixture_update(&m, loss, seed);
                EXPECT(all_rows(&m) == 13 && near(sum_of(&m), 1));
                for (int i = 0; i < n; i++) {
                    const double least = rule == MIX_DOREMI ? 1e-3 / n : rule >= MIX_VALIDATION ? 0.02 : 0;
                    EXPECT(m.weight[i] >= least - 1e-12 && m.given[i] + m.quota[i] <= m.most[i]);
                }
            }
        }
}
