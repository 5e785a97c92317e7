/* test_table.c - the op table beside its arithmetic: sums and verdicts, mirrors, memory, questions, replay. */
#include "harness.h"
#include "safetensors.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- sums and verdicts ----------------------------------------------------------------------------------- */

TEST(ops_sums) {
    for (int64_t n = 1; n < 100000; n = n * 3 + 1) {
        const size_t bytes = (size_t)n * sizeof(float);
        float *x = xmalloc(bytes);
        double sum = 0, squares = 0, first[2] = {0};
        Err e = {0};
        for (int64_t i = 0; i < n; i++) {
            x[i] = 1 + (float)noise(1, (uint64_t)i);
            sum += x[i], squares += (double)x[i] * x[i];
        }
        for (int run = 1; run <= 3; run++) {
            if (on_cpu()) EXPECT(ops()->start(run, &e)); /* so many threads */
            double s[2] = {1, 0};
            float *dx = device(x, bytes);
            double *ds = device(s, sizeof s);
            ops()->sum(&ds[0], dx, n, true), ops()->sum_squares(&ds[1], dx, n, false);
            host(s, ds, sizeof s), s[0] -= 1;
            EXPECT(fabs(s[0] - sum) <= 1e-12 * sum && fabs(s[1] - squares) <= 1e-12 * squares);
            if (run == 1) memcpy(first, s, sizeof s);
            EXPECT(!memcmp(first, s, sizeof s), "another run, another sum");
        }
        device_free(), free(x);
    }
}

static Verdict judged(double losses, double squares, double worst, double max_norm) {
    Verdict v;
    double in[2] = {losses, squares}, *din = device(in, sizeof in);
    Verdict *dv = device(NULL, sizeof v);
    ops()->judge(dv, &din[0], &din[1], 0.25, worst, max_norm);
    host(&v, dv, sizeof v);
    device_free();
    return v;
}

TEST(ops_judge) {
    const Verdict clipped = judged(12, 16, 100, 1), free_ = judged(12, 16, 100, 0),
                  small = judged(12, 0.25, 3, 1);
    EXPECT(clipped.loss == 3 && clipped.grad_norm == 4 && clipped.grad_scale == 0.25f && !clipped.skip);
    EXPECT(free_.grad_norm == 4 && free_.grad_scale == 1 && !free_.skip);
    EXPECT(small.grad_norm == 0.5 && small.grad_scale == 1 && !small.skip);
    EXPECT(judged(12.1, 1, 3, 1).skip, "a loss that is worse than the worst");
    EXPECT(judged(NAN, 1, INFINITY, 1).skip && judged(INFINITY, 1, INFINITY, 1).skip);
    EXPECT(judged(1, NAN, INFINITY, 1).skip && judged(1, INFINITY, INFINITY, 0).skip);
}

/* ---- the optimizer's mirror ------------------------------------------------------------------------------ */

enum { MIRRORED = 4096 + 3 };
static const AdamW mirror_step = {
    .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .step = 7, .seed = 11};

/* One step of numbers first .. first + n of MIRRORED; w and its mirror come back. */
static void mirror_run(AdamW a, int64_t first, int64_t n, bool skip, float *w, uint16_t *mirror) {
    static float in[4][MIRRORED];
    const size_t bytes = (size_t)n * sizeof(float);
    const Verdict v = {.grad_scale = 1, .skip = skip};
    float *d[4];
    for (int k = 0; k < 4; k++) {
        for (uint64_t i = 0; i < MIRRORED; i++)
            in[k][i] = (float)noise(20 + (uint64_t)k, i) + (k == 2 ? 1.5f : 0);
        d[k] = device(in[k] + first, bytes);
    }
    a.first += (uint64_t)first;
    uint16_t *to = ops()->mirror(DT_BF16) ? device(NULL, bytes / 2) : NULL;
    ops()->adamw(d[0], d[1], d[2], d[3], to, n, &a, device(&v, sizeof v));
    host(w, d[0], bytes);
    if (to) host(mirror, to, bytes / 2);
    device_free();
}

static float f32_of(uint16_t b) {
    const uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

TEST(ops_mirror_is_the_nearest) {
    static float w[MIRRORED];
    static uint16_t mirror[MIRRORED];
    int wrong = 0;
    if (!ops()->mirror(DT_BF16)) SKIP("this back end keeps no mirror");
    mirror_run(mirror_step, 0, MIRRORED, false, w, mirror);
    for (int i = 0; i < MIRRORED; i++) wrong += mirror[i] != bf16_from_f32(w[i]);
    EXPECT(wrong == 0, "%d of %d", wrong, MIRRORED);
}

/* Up or down to a neighbour, so that the mean is right; by the number of the element, wherever a piece begins. */
TEST(ops_mirror_is_right_on_average) {
    static float w[MIRRORED], part_w[MIRRORED];
    static uint16_t mirror[MIRRORED], part[MIRRORED];
    AdamW a = mirror_step;
    double off = 0, up = 0;
    int far = 0;
    if (!ops()->mirror(DT_BF16)) SKIP("this back end keeps no mirror");
    a.stochastic = true, a.first = 40;
    mirror_run(a, 0, MIRRORED, false, w, mirror);
    for (int i = 0; i < MIRRORED; i++) {
        uint32_t u;
        memcpy(&u, &w[i], sizeof u);
        const uint16_t down = (uint16_t)(u >> 16);
        far += mirror[i] != down && mirror[i] != down + (u & 0xffff ? 1 : 0);
        up += mirror[i] != down;
        off +=
            (f32_of(mirror[i]) - w[i]) / (f32_of((uint16_t)(down + 1)) - f32_of(down)); /* in last places */
    }
    /* The sum of MIRRORED numbers of mean 0 and variance at most 1/4 (1/6 on average): four deviations. */
    EXPECT(far == 0 && fabs(off) < 4 * sqrt(MIRRORED / 6.0) && fabs(up / MIRRORED - 0.5) < 0.04,
           "%d far, %g, %g", far, off, up / MIRRORED);
    mirror_run(a, 8, MIRRORED - 8, false, part_w, part);
    EXPECT(!memcmp(mirror + 8, part, sizeof part - 16) && !memcmp(w + 8, part_w, sizeof part_w - 32));
    a.step++;
    mirror_run(a, 0, MIRRORED, false, part_w, part);
    EXPECT(memcmp(mirror, part, sizeof part), "another step, the same choices");
}

TEST(ops_adamw_skips) {
    static float w[MIRRORED];
    static uint16_t mirror[MIRRORED];
    mirror_run(mirror_step, 0, MIRRORED, true, w, mirror);
    for (int i = 0; i < MIRRORED; i += 501) EXPECT(w[i] == (float)noise(20, (uint64_t)i) && mirror[i] == 0);
}

/* Muon rounds as AdamW does: the mirror it leaves is what a step of AdamW that moves nothing makes of the same weights. */
TEST(ops_muon_mirrors_as_adamw) {
    static const int64_t cols[] = {24, 23};
    static float in[3 * 17 * 24], w[3 * 17 * 24], still[3 * 17 * 24];
    static uint16_t x[3 * 17 * 24], mirror[3 * 17 * 24], same[3 * 17 * 24];
    const Verdict go = {.grad_scale = 1}, skip = {.grad_scale = 1, .skip = 1};
    if (!ops()->mirror(DT_BF16)) SKIP("this back end keeps no mirror");
    for (int i = 0; i < 8; i++) {
        const size_t n = (size_t)(3 * 17 * cols[i % 2]), bytes = n * sizeof *w;
        for (uint64_t k = 0; k < n; k++)
            in[k] = (float)noise(30, k), x[k] = bf16_from_f32((float)noise(31, k));
        Muon a = {17, cols[i % 2], 3, 0.9f, 2, 0.01f, 0.1f, 7, i & 2, 11, 32};
        AdamW none = {.step = 7, .eps = 1, .stochastic = i & 2, .seed = 11, .first = 32};
        float *dw = device(in, bytes), *m = device(NULL, bytes), *v = device(NULL, bytes),
              *g = device(NULL, bytes);
        uint16_t *dx = device(x, bytes / 2), *dm = device(NULL, bytes / 2), *ds = device(NULL, bytes / 2);
        ops()->muon_update(dw, dm, dx, &a, device(i & 4 ? &skip : &go, sizeof go));
        host(w, dw, bytes), host(mirror, dm, bytes / 2);
        ops()->adamw(dw, m, v, g, ds, (int64_t)n, &none, device(&go, sizeof go));
        host(still, dw, bytes), host(same, ds, bytes / 2);
        EXPECT(!memcmp(w, still, bytes) && !memcmp(w, in, bytes) == !!(i & 4), "case %d: weights", i);
        EXPECT(!memcmp(mirror, same, bytes / 2) == !(i & 4), "case %d: mirror", i);
        device_free();
    }
}

/* ---- memory and queues ----------------------------------------------------------------------------------- */

TEST(ops_memory) {
    Err e = {0};
    char zeros[1000] = {0}, text[1000] = "there and back", back[1000];
    char *p = ops()->alloc(sizeof text, "a test", &e);
    EXPECT_OK(&e);
    ops()->to_host(back, p, sizeof back);
    EXPECT((uintptr_t)p % (on_cpu() ? 64 : 256) == 0 && !memcmp(back, zeros, sizeof zeros));
    ops()->to_device(p, text, sizeof text);
    memset(text, 'x', sizeof text); /* the host's memory is free again */
    ops()->to_host(back, p, sizeof back);
    EXPECT(!strcmp(back, "there and back"));
    ops()->zero(p, 7);
    ops()->copy(p + 500, p, 100);
    ops()->to_host(back, p, sizeof back);
    EXPECT(back[6] == 0 && !strcmp(back + 7, "nd back") && !memcmp(back, back + 500, 100));
    ops()->release(p);
    EXPECT(!ops()->alloc(SIZE_MAX - 8, "the moon", &e));
    EXPECT_ERR(&e, "the moon");
    EXPECT(!ops()->alloc((size_t)1 << 50, "the sun", &e));
    EXPECT_ERR(&e, "the sun");
}

/* The answer is what stood there when the question was asked, whatever was queued before and after. */
enum { UPLOAD = (7 << 20) + 1234, UPLOADS = 3 };
static struct Upload { char *host, *device; } uploads[UPLOADS];

static void *upload(void *of) {
    const struct Upload *u = of;
    ops()->to_device(u->device, u->host, UPLOAD);
    memset(u->host, 0, UPLOAD); /* it is free again */
    return NULL;
}

/* Some threads at once, each with more than goes in one piece. */
TEST(ops_uploads) {
    pthread_t thread[UPLOADS];
    char *back = xmalloc(UPLOAD);
    for (int t = 0; t < UPLOADS; t++) {
        uploads[t] = (struct Upload){xmalloc(UPLOAD), device(NULL, UPLOAD)};
        for (int i = 0; i < UPLOAD; i++) uploads[t].host[i] = (char)(i * 7 + i / 1000 + t);
    }
    for (int t = 0; t < UPLOADS; t++) pthread_create(&thread[t], NULL, upload, &uploads[t]);
    for (int t = 0; t < UPLOADS; t++) pthread_join(thread[t], NULL);
    for (int t = 0; t < UPLOADS; t++) {
        int off = 0;
        host(back, uploads[t].device, UPLOAD);
        for (int i = 0; i < UPLOAD; i++) off += back[i] != (char)(i * 7 + i / 1000 + t);
        EXPECT(off == 0, "thread %d: %d bytes are not what was sent", t, off);
        free(uploads[t].host);
    }
    device_free(), free(back);
}

TEST(ops_ask) {
    float x[64], got[64];
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    float *p = device(NULL, sizeof x), *q = device(x, sizeof x);
    for (int round = 0; round < 3; round++) {
        ops()->copy(p, q, sizeof x);
        ops()->ask(p, sizeof x);
        ops()->zero(p, sizeof x);
        ops()->answer(got, sizeof got);
        EXPECT(!memcmp(got, x, sizeof x), "round %d", round);
        host(got, p, sizeof got);
        EXPECT(got[63] == 0);
    }
    device_free();
}

/* What was recorded runs again, with what stands in its arguments then; each key has its own. */
TEST(ops_replay) {
    Graph *g = NULL;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    double total[2];
    float *p = device(x, sizeof x);
    double *sums = device(NULL, sizeof total);
    for (int round = 0; round < 6; round++) {
        const uint64_t key = (uint64_t)(round % 2);
        if (ops()->replay(&g, key)) continue;
        ops()->sum(&sums[key], p, key ? 4 : 8, true);
        ops()->copy(p, p + 4, 4 * sizeof *p);
        ops()->replay_end(&g);
    }
    host(total, sums, sizeof total);
    /* 36, 26 after the copy, 52, 26, 52, 26 */
    EXPECT(total[0] == 36 + 52 + 52 && total[1] == 26 + 26 + 26, "%g %g", total[0], total[1]);
    ops()->graph_free(g);
    device_free();
}

TEST(ops_describe) {
    Err e = {0};
    char text[256] = "";
    if (on_cpu()) EXPECT(ops()->start(2, &e));
    ops()->describe(text, sizeof text);
    EXPECT(!on_cpu() || strstr(text, ", 2 threads, "), "%s", text);
    EXPECT(text[0] && !strchr(text, '\n'));
    if (on_cpu()) {
        EXPECT(!ops()->start(1 << 20, &e));
        EXPECT_ERR(&e, "train.threads is 1048576");
    }
    EXPECT(ops()->has(DT_F32));
    EXPECT(ops()->peak_flops(DT_F32) > 1e8);
    EXPECT(ops()->room() > 1 << 20);
}

TEST(ops_choose) {
    Err e = {0};
    EXPECT(ops_choose("cpu", &e) == &cpu_ops);
    EXPECT_OK(&e);
    EXPECT(!ops_choose("tpu", &e));
    EXPECT_ERR(&e, "must be \"cpu\"");
}
