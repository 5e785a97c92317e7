/* mixing.c - floor 5: see mixing.h; mixture.c does the arithmetic. */
#include "mixing.h"

#include "heldout.h"
#include "mixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Mixing {
    Mixture m;
    const Config *c;
    Loader *train;
    int64_t from, until; /* the steps of this interval are from + 1 .. until */
    bool dealt;          /* the loader knows of it */
    struct {
        Loader *val;
        uint64_t rows;    /* of it, that are looked at */
        float *reference; /* [rows, T] losses of doremi's reference; NULL elsewhere */
        double loss;      /* of the last look (doremi: excess), NAN if it was passed over */
    } of[MIXTURE_MOST];
};

static bool looks(const Mixing *x) {
    return x->m.rule >= MIX_VALIDATION;
}

static const char *name_of(const Mixing *x, int i) {
    const DataSource *s = &x->c->data.train.at[i];
    return *s->name ? s->name : s->path;
}

/* ---- setting up ------------------------------------------------------------------------------------------ */

static bool open_held_out(Mixing *x, int i, Err *e) {
    const Config *c = x->c;
    const Source s = {c->data.train.at[i].val, 1};
    const uint64_t most = (uint64_t)c->mixing.rows;
    x->of[i].loss = NAN;
    if (!looks(x)) return true;
    x->of[i].val = loader_open(&s, 1, (int)c->train.seq_len, false, 0, (int32_t)c->model.vocab_size, e);
    if (!x->of[i].val) return false;
    const uint64_t all = loader_sequences(x->of[i].val);
    x->of[i].rows = all < most ? all : most;
    return true;
}

/* Epochs as rows, and whether they last for the run. */
static bool set_caps(Mixing *x, Err *e) {
    const Config *c = x->c;
    const uint64_t needed = (uint64_t)c->train.max_steps * (uint64_t)c->train.global_batch_size;
    for (int i = 0; i < x->m.n; i++) {
        const double epochs = c->data.train.at[i].epochs,
                     most = floor(epochs * (double)loader_sequences_of(x->train, i));
        x->m.most[i] = epochs > 0 && most < 0x1p62 ? (uint64_t)most : UINT64_MAX;
    }
    const uint64_t left = mixture_left(&x->m);
    return left >= needed ||
           err_usage(
               e,
               "config: the epochs of data.train's sources give %llu sequences, and the run needs %llu; "
               "allow more epochs, or fewer train.max_steps",
               (unsigned long long)left, (unsigned long long)needed);
}

bool mixing_open(Mixing **out, const Config *c, Loader *train, Err *e) {
    MixRule rule = MIX_STATIC;
    bool capped = false, ok = true;
    while (strcmp(mix_names[rule], c->data.mixing)) rule++;
    for (int i = 0; i < c->data.train.n; i++) capped |= c->data.train.at[i].epochs > 0;
    *out = NULL;
    if (rule == MIX_STATIC && !capped) return true;
    Mixing *x = *out = xcalloc(1, sizeof *x);
    *x = (Mixing){.c = c, .train = train};
    x->m = (Mixture){.rule = rule,
                     .n = c->data.train.n,
                     .rate = c->mixing.rate,
                     .smoothing = c->mixing.smoothing,
                     .floor = rule == MIX_VALIDATION || rule == MIX_EXP3 ? c->mixing.floor : 0,
                     .most_loss = log((double)c->model.vocab_size)};
    for (int i = 0; i < x->m.n; i++) x->m.prior[i] = c->data.train.at[i].weight;
    for (int i = 0; i < x->m.n && ok; i++) ok = open_held_out(x, i, e);
    mixture_init(&x->m);
    return ok && set_caps(x, e);
}

void mixing_close(Mixing *x) {
    if (!x) return;
    for (int i = 0; i < x->m.n; i++) {
        loader_close(x->of[i].val);
        free(x->of[i].reference);
    }
    free(x);
}

/* ---- looking --------------------------------------------------------------------------------------------- */

static void keep_losses(void *reference, uint64_t row, int n, int T, const float *losses) {
    memcpy((float *)reference + row * (uint64_t)T, losses, (size_t)n * (size_t)T * sizeof *losses);
}

static bool check_reference(const ModelConfig *m, const Config *c, Err *e) {
    if (m->vocab_size == c->model.vocab_size && m->n_positions >= c->train.seq_len) return true;
    return err_set(e,
                   "%s: has a vocabulary of %lld and a context of %lld; a reference for this run needs %lld, "
                   "and %lld or more",
                   c->mixing.reference, (long long)m->vocab_size, (long long)m->n_positions,
                   (long long)c->model.vocab_size, (long long)c->train.seq_len);
}

bool mixing_reference(Mixing *x, const GptOptions *training, Err *e) {
    if (!x || x->m.rule != MIX_DOREMI) return true;
    ModelConfig c;
    GptOptions o = *training;
    o.train = false, o.zero = 0;
    if (!model_config_of(x->c->mixing.reference, &c, e) || !check_reference(&c, x->c, e) ||
        !gpt_grid_check(&c, &o, e))
        return false;
    Gpt *m = gpt_create(&c, &o, e);
    bool ok = m && model_load(m, x->c->mixing.reference, e);
    if (ok) gpt_weights_changed(m, false);
    for (int i = 0; i < x->m.n && ok; i++) {
        x->of[i].reference = xcalloc(x->of[i].rows * (uint64_t)o.T, sizeof(float));
        ok = heldout_losses(m, x->of[i].val, x->of[i].rows, keep_losses, x->of[i].reference, e);
    }
    if (o.comm) comm_sent(o.comm, LANE_NEXT); /* the next stage may still be reading from this one's memory */
    gpt_free(m);
    return ok;
}

typedef struct Look {
    const float *reference;
    double *sum; /* of each row: what is added up later is the same on any grid */
} Look;

static void add_losses(void *ctx, uint64_t row, int n, int T, const float *losses) {
    const Look *k = ctx;
    for (int64_t i = 0; i < (int64_t)n * T; i++) {
        const double loss = losses[i],
                     above = k->reference ? k->reference[row * (uint64_t)T + (uint64_t)i] : 0;
        k->sum[row + (uint64_t)(i / T)] += k->reference ? fmax(loss - above, 0) : loss;
    }
}

static bool look_at(Mixing *x, int i, Gpt *m, Err *e) {
    const uint64_t rows = x->of[i].rows;
    Look k = {x->of[i].reference, xcalloc(rows, sizeof(double))};
    bool ok = heldout_losses(m, x->of[i].val, rows, add_losses, &k, e);
    if (ok) {
        double sum = 0;
        heldout_sum(gpt_options(m)->comm, k.sum, (int)rows);
        for (uint64_t r = 0; r < rows; r++) sum += k.sum[r];
        x->of[i].loss = sum / ((double)rows * (double)x->c->train.seq_len);
    }
    free(k.sum);
    return ok;
}

/* ---- weights and rows ------------------------------------------------------------------------------------ */

bool mixing_is_due(const Mixing *x, int64_t step) {
    return x && step == x->until;
}

bool mixing_publish(Mixing *x, Gpt *m, Err *e) {
    const uint64_t seed = (uint64_t)x->c->train.seed;
    const int arm = mixture_arm(&x->m, seed);
    double loss[MIXTURE_MOST] = {0};
    for (int i = 0; i < x->m.n; i++) {
        x->of[i].loss = NAN;
        if (!looks(x) || (arm >= 0 && arm != i)) continue;
        if (!look_at(x, i, m, e)) return false;
        loss[i] = x->of[i].loss;
    }
    mixture_update(&x->m, loss, seed);
    return true;
}

void mixing_deal(Mixing *x, int64_t step) {
    if (!x) return;
    const Config *c = x->c;
    const int64_t left = c->train.max_steps - step, n = left < c->mixing.interval ? left : c->mixing.interval;
    const uint64_t all = (uint64_t)c->train.global_batch_size;
    if (step == x->until) {
        mixture_deal(&x->m, (uint64_t)n * all);
        x->from = step, x->until = step + n, x->dealt = false;
    }
    if (!x->dealt) loader_deal(x->train, (uint64_t)x->from * all, x->m.quota, x->m.given);
    x->dealt = true;
}

void mixing_print(const Mixing *x, Str *json) {
    for (int i = 0; i < x->m.n; i++) {
        const double loss = x->of[i].loss;
        str_puts(json, i ? ", " : "{");
        json_text(json, name_of(x, i));
        str_printf(json, ": {\"weight\": %.17g", x->m.weight[i]);
        str_printf(json, isnan(loss) ? ", \"loss\": null" : ", \"loss\": %.17g", loss);
        str_printf(json, ", \"reward\": %.17g, \"rows\": %llu}", x->m.reward[i],
                   (unsigned long long)(x->m.given[i] + x->m.quota[i]));
    }
    str_puts(json, "}");
}

/* ---- checkpoints ----------------------------------------------------------------------------------------- */

/* Every value of a mixture that a checkpoint carries, in one list: of the interval, then of each source. */
enum { OF_ALL = 3, OF_SOURCE = 6, STATE_MOST = OF_ALL + OF_SOURCE * MIXTURE_MOST };

static int list_state(const Mixing *x, double *value, char (*key)[48]) {
    const Mixture *m = &x->m;
    const double all[OF_ALL] = {(double)x->from, (double)x->until, (double)m->time};
    static const char *const of_all[OF_ALL] = {"from", "until", "time"};
    static const char *const of_source[OF_SOURCE] = {"weight", "reward", "owed", "given", "quota", "loss"};
    for (int k = 0; k < OF_ALL; k++) {
        snprintf(key[k], sizeof key[k], "mixing.%s", of_all[k]);
        value[k] = all[k];
    }
    int at = OF_ALL;
    for (int i = 0; i < m->n; i++) {
        const double own[OF_SOURCE] = {m->weight[i],        m->reward[i],        m->owed[i],
                                       (double)m->given[i], (double)m->quota[i], x->of[i].loss};
        for (int k = 0; k < OF_SOURCE; k++, at++) {
            snprintf(key[at], sizeof key[at], "mixing.%d.%s", i, of_source[k]);
            value[at] = own[k];
        }
    }
    return at;
}

/* What else the numbers mean nothing without: the rule, the sources' names and their order, the batch. */
static double mark(const Mixing *x) {
    Str s = {0};
    str_printf(&s, "%s %lld", x->c->data.mixing, (long long)x->c->train.global_batch_size);
    for (int i = 0; i < x->m.n; i++) str_printf(&s, "\n%s", name_of(x, i));
    const uint32_t crc = crc32_of(0, s.p, s.n);
    str_free(&s);
    return crc;
}

void mixing_save(const Mixing *x, TrainState *s) {
    double value[STATE_MOST];
    char key[STATE_MOST][48];
    if (!x) return;
    const int n = list_state(x, value, key);
    state_set(s, "mixing.of", mark(x));
    for (int i = 0; i < n; i++) state_set(s, key[i], value[i]);
}

bool mixing_load(Mixing *x, const TrainState *s, int64_t step, Err *e) {
    double value[STATE_MOST];
    char key[STATE_MOST][48];
    if (!x) return true;
    const double of = state_get(s, "mixing.of", -1);
    x->from = x->until = step;
    if (of < 0) return true; /* a new run, or one that goes on with a mixture from here */
    if (of != mark(x))
        return err_usage(
            e, "config: the run to go on with mixes other sources, or by another data.mixing, or "
               "in other batches; leave these as they were, or start a run from its weights (init_from)");
    const int n = list_state(x, value, key);
    for (int i = 0; i < n; i++) value[i] = state_get(s, key[i], value[i]);
    x->from = (int64_t)value[0], x->until = (int64_t)value[1], x->m.time = (uint64_t)value[2];
    const double *own = value + OF_ALL;
    for (int i = 0; i < x->m.n; i++, own += OF_SOURCE) {
        x->m.weight[i] = own[0], x->m.reward[i] = own[1], x->m.owed[i] = own[2];
        x->m.given[i] = (uint64_t)own[3], x->m.quota[i] = (uint64_t)own[4];
        x->of[i].loss = own[5];
    }
    return true;
}
