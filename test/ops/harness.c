/* harness.c - see harness.h. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool on_cpu(void) {
    return ops() == &cpu_ops;
}

const Ops *ops(void) {
    static const Ops *table;
    const char *name = getenv("GPT_TEST_DEVICE");
    Err e = {0};
    if (table) return table;
    table = ops_choose(name ? name : "cpu", &e);
    if (!table || !table->start(0, &e)) {
        fprintf(stderr, "GPT_TEST_DEVICE: %s\n", e.msg);
        exit(1);
    }
    return table;
}

/* Bytes around an argument. Only the CPU's ops promise to take what is not aligned to 16 bytes. */
static size_t guard(void) {
    return getenv("GPT_TEST_EXACT") ? 0 : 256;
}
static size_t shift(const Case *c, size_t size) {
    return on_cpu() ? size * (size_t)(c->d[0] % 3) : 0;
}

double noise(uint64_t what, uint64_t i) {
    return 2 * rand_uniform(42, RAND_TEST, what, i) - 1;
}

int32_t *some_ids(int64_t n, int from, int to, uint64_t what) {
    int32_t *ids = xmalloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = from + (int32_t)rand_below(3, RAND_TEST, what, (uint64_t)i, (uint64_t)(to - from));
    return ids;
}

double weighted(const double *y, const double *dy, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += y[i] * dy[i];
    return s;
}

Dropout some_dropout(bool on, uint64_t row0) {
    return (Dropout){.p = on ? 0.3f : 0, .seed = 5, .step = 17, .site = 4, .row0 = row0};
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static void *allocated(size_t bytes) {
    Err e = {0};
    void *p = ops()->alloc(bytes, "a test", &e);
    EXPECT_OK(&e);
    return p;
}

void *given(Case *c, const void *host, size_t bytes) {
    void *p = allocated(bytes);
    CHECK(c->n_given < MAX_GIVEN);
    ops()->to_device(p, host, bytes);
    return c->given[c->n_given++] = p;
}

static void *lent[64];
static int n_lent;

void *device(const void *from, size_t bytes) {
    void *p = allocated(bytes);
    CHECK(n_lent < 64);
    if (from) ops()->to_device(p, from, bytes);
    return lent[n_lent++] = p;
}
void host(void *to, const void *from, size_t bytes) {
    ops()->to_host(to, from, bytes);
}
void device_free(void) {
    while (n_lent) ops()->release(lent[--n_lent]);
}

/* ---- arguments ------------------------------------------------------------------------------------------- */

static size_t arg_size(const Arg *a) {
    return a->kind == NUMBERS ? dtype_size(a->t.dtype) : a->kind == INTS ? sizeof(int32_t) : sizeof(double);
}
static size_t arg_bytes(const Arg *a) {
    return (size_t)a->n * arg_size(a);
}

static void arg_new(Case *c, Arg arg, double about, double size) {
    Arg *a = &c->a[c->n_args++];
    CHECK(c->n_args <= MAX_ARGS);
    *a = arg;
    if (a->n == 0) return;
    const size_t bytes = arg_bytes(a), before = guard() + shift(c, arg_size(a)), all = bytes + 3 * guard();
    a->block = xmalloc(all), a->first = xmalloc(bytes), a->device = allocated(all);
    a->host = tensor(a->block + before, a->t.dtype), a->t.p = a->device + before;
    a->ref = xmalloc((size_t)a->n * sizeof(double)), a->before = xmalloc((size_t)a->n * sizeof(double));
    for (int64_t i = 0; i < a->n; i++) a->ref[i] = about + size * noise((uint64_t)c->n_args, (uint64_t)i);
}

void arg_add(Case *c, const char *name, Role role, int64_t n, Dtype dtype, double about, double size) {
    arg_new(c, (Arg){.name = name, .role = role, .kind = NUMBERS, .n = n, .t = {NULL, dtype}}, about, size);
}

void arg_add_kind(Case *c, const char *name, Role role, int64_t n, Kind kind, double about, double size) {
    arg_new(c, (Arg){.name = name, .role = role, .kind = kind, .n = n}, about, size);
}

static double arg_read(const Arg *a, int64_t i) {
    uint32_t u;
    float f;
    if (a->kind == DOUBLES) return ((double *)a->host.p)[i];
    if (a->kind == INTS) return ((int32_t *)a->host.p)[i];
    if (a->t.dtype == DT_F32) return ((float *)a->host.p)[i];
    u = (uint32_t)((uint16_t *)a->host.p)[i] << 16;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void arg_write(const Arg *a, int64_t i, double v) {
    float f = (float)ref_round(v, a->t.dtype);
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (a->kind == DOUBLES)
        ((double *)a->host.p)[i] = v;
    else if (a->kind == INTS)
        ((int32_t *)a->host.p)[i] = isnan(v) ? -1 : (int32_t)v;
    else if (a->t.dtype == DT_F32)
        ((float *)a->host.p)[i] = f;
    else
        ((uint16_t *)a->host.p)[i] = (uint16_t)(u >> 16);
}

/* The reference gets just what the op gets: inputs rounded to their dtype. */
static void round_inputs(Case *c) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        for (int64_t i = 0; i < a->n && !c->exact; i++)
            arg_write(a, i, a->ref[i]), a->ref[i] = arg_read(a, i);
        if (a->n) memcpy(a->before, a->ref, (size_t)a->n * sizeof *a->ref);
    }
}

static void set_memory(Case *c) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        if (a->n == 0) continue;
        memset(a->block, 0xa5, arg_bytes(a) + 3 * guard());
        for (int64_t i = 0; i < a->n; i++) arg_write(a, i, a->role == OUT ? NAN : a->before[i]);
        ops()->to_device(a->device, a->block, arg_bytes(a) + 3 * guard());
    }
}

static void get_memory(Case *c) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++)
        if (a->n) ops()->to_host(a->block, a->device, arg_bytes(a) + 3 * guard());
}

/* ---- checks ---------------------------------------------------------------------------------------------- */

static void check_guards(Case *c, const char *where) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        const char *end = (char *)a->host.p + arg_bytes(a);
        int touched = 0;
        if (a->n == 0) continue;
        for (const char *g = a->block; g < (char *)a->host.p; g++) touched += *g != (char)0xa5;
        for (const char *g = end; g < end + guard(); g++) touched += *g != (char)0xa5;
        EXPECT(touched == 0, "%s: wrote outside of %s", where, a->name);
    }
}

/* Normalised mean squared errors. fp32 sums of thousands of terms stand near 1e-14. bf16 rounds to 2^-9 relative, 1.3e-6
 * squared and averaged, and more where a rounded number went through a GELU. tf32 cuts to 2^-10, always downward, so
 * errors add. e4m3 and e5m2 round each operand to 2^-4 and 2^-3, squared and averaged over a binade 5e-4 and 2e-3. */
static double tolerance(const Case *c, const Arg *a) {
    if (c->compute == DT_F8) return 6e-3;
    if (a->kind == NUMBERS && (a->t.dtype == DT_BF16 || c->dtype == DT_BF16)) return 2e-5;
    return c->compute == DT_TF32 ? 4e-6 : 1e-12;
}

static void check_agreement(Case *c, const char *where) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        double off = 0, all = 0;
        for (int64_t i = 0; i < a->n; i++) {
            double d = arg_read(a, i) - a->ref[i];
            off += d * d, all += a->ref[i] * a->ref[i];
        }
        const bool agrees = a->role == IN ? off == 0 : off <= tolerance(c, a) * all;
        EXPECT(agrees, "%s: %s is off by %.3g (nmse)", where, a->name, off / all);
    }
}

static void check_same(Case *c, int run, const char *where) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        if (a->n == 0) continue;
        if (run == 1)
            memcpy(a->first, a->host.p, arg_bytes(a));
        else
            EXPECT(!memcmp(a->first, a->host.p, arg_bytes(a)), "%s: %s is another %s", where, a->name,
                   on_cpu() ? "on more threads" : "in a second run");
    }
}

/* Central differences of the loss by some numbers of each input, in double. */
static void check_gradients(Case *c, const char *where) {
    const double h = 1e-5;
    for (const int(*w)[2] = c->test->wrt; (*w)[1]; w++) {
        Arg *x = &c->a[(*w)[0]], *g = &c->a[(*w)[1]];
        for (int64_t k = 0; k < 8 && x->n && g->n; k++) {
            const int64_t i = (int64_t)rand_below(7, RAND_TEST, 99, (uint64_t)k, (uint64_t)x->n);
            const double keep = x->ref[i];
            x->ref[i] = keep + h;
            double up = c->test->loss(c);
            x->ref[i] = keep - h;
            double slope = (up - c->test->loss(c)) / (2 * h);
            x->ref[i] = keep;
            EXPECT(fabs(slope - g->ref[i]) <= 1e-7 * (1 + fabs(slope)),
                   "%s: d%s[%d] is %.9g, by differences %.9g", where, x->name, (int)i, g->ref[i], slope);
        }
    }
}

/* ---- cases ----------------------------------------------------------------------------------------------- */

static void case_open(Case *c, const OpTest *t, const int *d, Dtype compute, bool exact) {
    *c = (Case){.test = t, .d = d, .compute = compute, .exact = exact};
    c->dtype = dtype_of_tensors(compute), c->stream = ops()->stream(compute);
    t->args(c);
    const size_t bytes = (size_t)d[0] * sizeof(int32_t);
    if (c->ids) c->dids = given(c, c->ids, bytes);
    if (c->ids2) c->dids2 = given(c, c->ids2, bytes);
    if (t->prepare) round_inputs(c), t->prepare(c);
    round_inputs(c);
    t->ref(c);
}

static void case_close(Case *c) {
    for (Arg *a = c->a; a < c->a + c->n_args; a++) {
        free(a->block), free(a->first), free(a->ref), free(a->before);
        if (a->n) ops()->release(a->device);
    }
    while (c->n_given) ops()->release(c->given[--c->n_given]);
    free(c->ids), free(c->ids2);
}

static void run_case(Case *c, const char *where) {
    Err e = {0};
    for (int run = 1; run <= (on_cpu() ? 3 : 2); run++) {
        if (on_cpu()) EXPECT(ops()->start(run, &e)); /* so many threads */
        set_memory(c);
        c->test->op(c, ops());
        get_memory(c);
        check_guards(c, where);
        check_same(c, run, where);
        if (run == 1) check_agreement(c, where);
    }
}

void run_test(const OpTest *t) {
    static Case c;
    char where[128];
    for (const int(*d)[MAX_DIMS] = t->shapes; (*d)[0]; d++) {
        for (Dtype compute = DT_F32; compute <= DT_F8; compute++) {
            if (compute > DT_BF16 && !(t->products && ops()->has(compute))) continue;
            snprintf(where, sizeof where, "%s %s, shape %d", t->name, dtype_names[compute],
                     (int)(d - t->shapes));
            case_open(&c, t, *d, compute, false);
            run_case(&c, where);
            case_close(&c);
        }
        if (!t->loss) continue;
        case_open(&c, t, *d, DT_F32, true);
        check_gradients(&c, where);
        case_close(&c);
    }
}
