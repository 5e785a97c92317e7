/* The planner's arithmetic of a step, against figures that others published and against its own parts. */
#include "cost.h"

#include "schedule.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- published rows --------------------------------------------------------------------------------------
 * Programs with habits of their own. Megatron-LM stores the scores of attention (until FlashAttention came), its
 * elementwise kernels are separate (bias, dropout and addition; norm; bias and GELU; scale, mask and softmax; dropout
 * with a mask of one byte), its loss is in fp32, a kernel for each step of it, and its optimizer unscales, measures,
 * clips and copies in sweeps of their own. Nothing is fitted to any row but COST_EFFICIENCY, and that to the first row alone. */

#define MEGATRON .stream = {11, 17}, .hidden = {2, 3}, .logits = 26, .down_again = true, .optimizer = 58
static const Habits megatron_2021 = {MEGATRON, .scores = {6.5, 9.5, 5.5}, .gradient_size = 2};
static const Habits megatron_full = {MEGATRON, .scores = {6.5, 9.5, 5.5}, .gradient_size = 4};
static const Habits megatron_selective = {MEGATRON, .scores = {6.5, 9.5, 5.5}, .gradient_size = 4,
                                          .scores_again = true};
static const Habits megatron_h100 = {MEGATRON, .gradient_size = 4, .hides_tensor = true, .hides_data = true,
                                     .hides_weights = true};

typedef struct Size {
    const char *name;
    int64_t layers, width, heads, context, vocab;
    bool tied;
} Size;

static ModelConfig model_of(const Size *s) {
    static Config c;
    config_defaults(&c);
    ModelConfig m = c.model;
    m.n_layer = s->layers, m.n_embd = s->width, m.n_head = s->heads;
    m.n_positions = s->context, m.vocab_size = s->vocab, m.tie_word_embeddings = s->tied;
    return m;
}

static Job job_of(const ModelConfig *m, const char *gpu, const Habits *h, int dp, int pp, int tp, int B,
                  int64_t batch) {
    Err e = {0};
    const Job j = {.model = m,
                   .gpu = gpu_find(gpu, &e),
                   .habits = h,
                   .efficiency = COST_EFFICIENCY,
                   .o = {.grid = grid_at(dp, pp, tp, 0),
                         .compute = DT_BF16,
                         .train = true,
                         .B = B,
                         .T = (int)m->n_positions,
                         .micro_steps = batch / dp / B}};
    EXPECT_OK(&e);
    return j;
}

/* Prints a figure beside the published one, and holds the bound, in per cent. */
static void compare(const char *row, const char *what, double is, double published, double bound) {
    const double off = 100 * (is / published - 1);
    printf("    %-24s %-34s %9.2f %9.2f %+7.1f %%\n", row, what, is, published, off);
    EXPECT(fabs(off) <= bound, "%s, %s: %+.1f %%, beyond %g", row, what, off, bound);
}

/* Korthikanti et al. 2022, tables 3 and 5, and the memory that its formulas give: A100, tensor 8, no data parallelism. */
typedef struct Korthikanti {
    Size model;
    int pp, interleave, B, batch;
    double full, selective;       /* seconds a step: full recomputation; sequence parallel and selective */
    double parameters, all, kept; /* GiB: with optimizer; activations without and with those two */
} Korthikanti;
static const Korthikanti korthikanti[] = {
    {{"22B", 48, 6144, 64, 2048, 51200, true}, 1, 1, 4, 4, 1.42, 1.10, 45.56, 59.25, 9.56},
    {{"175B", 96, 12288, 96, 2048, 51200, true}, 8, 3, 1, 64, 18.13, 13.75, 45.56, 66.84, 12.35},
    {{"530B", 105, 20480, 128, 2048, 51200, true}, 35, 3, 1, 280, 49.05, 37.83, 31.64, 114.02, 23.08},
    {{"1T", 128, 25600, 160, 2048, 51200, true}, 64, 1, 1, 512, 94.42, 71.49, 32.96, 131.25, 26.56},
};
enum { N_KORTHIKANTI = sizeof korthikanti / sizeof *korthikanti };

static double korthikanti_seconds(const Korthikanti *k, bool selective, double efficiency) {
    const ModelConfig m = model_of(&k->model);
    Job j = job_of(&m, "a100", selective ? &megatron_selective : &megatron_full, 1, k->pp, 8, k->B, k->batch);
    j.efficiency = efficiency;
    j.o.interleave = k->interleave;
    j.o.recompute = selective ? RECOMPUTE_NONE : RECOMPUTE_BLOCK;
    j.o.sequence_parallel = selective;
    return cost_of(&j).seconds;
}

/* The constant is what makes both columns of the 22B row right on average. */
TEST(cost_calibration) {
    double lo = 0.5, hi = 1.5;
    while (hi - lo > 1e-6) {
        const double e = (lo + hi) / 2;
        const double over = korthikanti_seconds(korthikanti, false, e) / 1.42 *
                            korthikanti_seconds(korthikanti, true, e) / 1.10;
        if (over > 1)
            lo = e;
        else
            hi = e;
    }
    EXPECT(fabs(lo - COST_EFFICIENCY) < 0.005, "calibrated: %.4f", lo);
}

TEST(cost_korthikanti_seconds) {
    for (int i = 0; i < N_KORTHIKANTI; i++) {
        const Korthikanti *k = &korthikanti[i];
        compare(k->model.name, "A100, full recompute, s", korthikanti_seconds(k, false, COST_EFFICIENCY),
                k->full, 12);
        compare(k->model.name, "A100, selective, s", korthikanti_seconds(k, true, COST_EFFICIENCY),
                k->selective, 12);
    }
}

/* Layers' sets of activations that the first stage of a pipeline holds at once, at most, as its schedule runs. */
static double layers_in_flight(const Korthikanti *k) {
    Task *task = schedule_make(k->pp, 0, k->interleave, k->batch / k->B);
    int64_t now = 0, most = 0;
    for (int64_t i = 0; i < 2 * k->interleave * (int64_t)(k->batch / k->B); i++) {
        now += task[i].backward ? -1 : 1;
        if (now > most) most = now;
    }
    free(task);
    return (double)(most * k->model.layers) / (k->pp * k->interleave);
}

/* Megatron's layout: 18 bytes for each weight of a layer's matrices (2 in 16 bits; in 32 its master, gradient and two
 * moments), and the paper's equations 2 and 6 for a layer's activations. */
TEST(cost_korthikanti_memory) {
    const double GiB = 1 << 30, t = 8;
    for (int i = 0; i < N_KORTHIKANTI; i++) {
        const Korthikanti *k = &korthikanti[i];
        const ModelConfig m = model_of(&k->model);
        int n;
        int64_t elements;
        double weights = 0;
        Param *p = gpt_params(&m, NULL, &n, &elements);
        for (int j = 0; j < n; j++)
            if (p[j].parts) weights += (double)p[j].count;
        free(p);
        const double sbh = 2048.0 * k->B * (double)m.n_embd, in_flight = layers_in_flight(k);
        const double scores = 5.0 * (double)m.n_head * 2048 / (double)m.n_embd;
        compare(k->model.name, "parameters and optimizer, GiB", 18 * weights / t / k->pp / GiB, k->parameters,
                1);
        compare(k->model.name, "activations, GiB", in_flight * sbh * (10 + 24 / t + scores / t) / GiB, k->all,
                1);
        compare(k->model.name, "  of these, selective", in_flight * sbh * 34 / t / GiB, k->kept, 1);
    }
}

/* Narayanan et al. 2021, table 2: 300 billion tokens on 384, 768, 1536 A100. */
TEST(cost_megatron_2021) {
    static const Size size = {"175B", 96, 12288, 96, 2048, 51200, true};
    static const double days[] = {84, 43, 23};
    const ModelConfig m = model_of(&size);
    for (int i = 0; i < 3; i++) {
        char what[32];
        const int gpus = 384 << i;
        Job j = job_of(&m, "a100", &megatron_2021, gpus / 96, 12, 8, 1, 1536);
        j.o.recompute = RECOMPUTE_BLOCK;
        snprintf(what, sizeof what, "%d A100, days", gpus);
        compare("175B (2021)", what, 300e9 / (1536 * 2048) * cost_of(&j).seconds / 86400, days[i], 12);
    }
}

/* As Megatron counts: both halves of attention (Narayanan et al. 2021, equation 3, without recomputation). */
static double megatron_flops(const ModelConfig *m, double tokens) {
    const double h = (double)m->n_embd, L = (double)m->n_layer, V = (double)m->vocab_size;
    return 72 * tokens * L * h * h * (1 + (double)m->n_positions / (6 * h) + V / (12 * L * h));
}

/* Megatron-LM's README for H100: its table, of 48 data ranks, and the largest run and the smallest of its "strong scaling"
 * of 177B. It names sizes, not shapes: these are the ones that have them. Of batches it says that of the strong scaling, 1152
 * sequences; its messages between stages are overlapped, which its program can do in interleaved schedules only: here of
 * two chunks, the fewest. Nothing else is known of the rows, and nothing is fitted to them. The last row is the one to
 * which chunks matter most: 12 micro steps in 6 stages. */
TEST(cost_megatron_h100) {
    static const struct {
        Size size;
        int dp, pp, tp;
        double mfu, bound;
    } row[] = {{{"1.7B", 24, 2048, 16, 4096, 131072, false}, 48, 1, 1, 41, 12},
               {{"7.1B", 30, 4096, 32, 4096, 131072, false}, 48, 1, 2, 47, 12},
               {{"16B", 32, 6144, 48, 4096, 131072, false}, 48, 1, 4, 49, 12},
               {{"70B", 84, 8192, 64, 4096, 131072, false}, 48, 2, 8, 42, 12},
               {{"177B", 96, 12288, 96, 4096, 131072, false}, 48, 6, 8, 44, 12},
               {{"177B", 96, 12288, 96, 4096, 131072, false}, 2, 6, 8, 47, 12},
               {{"177B", 96, 12288, 96, 4096, 131072, false}, 96, 6, 8, 42, 14}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const int dp = row[i].dp, gpus = dp * row[i].pp * row[i].tp;
        char what[40];
        const ModelConfig m = model_of(&row[i].size);
        Job j = job_of(&m, "h100", &megatron_h100, dp, row[i].pp, row[i].tp, 1, 1152);
        j.o.zero = 1, j.o.sequence_parallel = row[i].tp > 1, j.o.interleave = row[i].pp > 1 ? 2 : 1;
        snprintf(what, sizeof what, "Megatron, %d H100, MFU %%", gpus);
        compare(row[i].size.name, what,
                100 * megatron_flops(&m, 1152.0 * 4096) / cost_of(&j).seconds / gpus / j.gpu->tensor,
                row[i].mfu, row[i].bound);
    }
}

/* llm.c does as we do. Eight H100, micro batches of 64 and 16 sequences of 1024. */
TEST(cost_llmc) {
    static const struct {
        Size size;
        int B, batch;
        double ms;
    } row[] = {{{"124M", 12, 768, 12, 1024, 50257, true}, 64, 512, 140},
               {{"1558M", 48, 1600, 25, 1024, 50257, true}, 16, 1024, 2800}};
    for (int i = 0; i < 2; i++) {
        const ModelConfig m = model_of(&row[i].size);
        Job j = job_of(&m, "h100", &gpt_habits, 8, 1, 1, row[i].B, row[i].batch);
        j.o.zero = 1, j.o.recompute = RECOMPUTE_GELU;
        compare(row[i].size.name, "llm.c, 8 H100, ms", 1e3 * cost_of(&j).seconds, row[i].ms, 12);
    }
}

/* ---- its own parts --------------------------------------------------------------------------------------- */

TEST(cost_pipeline_bubble) {
    static const int chunks[] = {1, 1, 2, 3}, pp[] = {1, 4, 4, 2}, micros[] = {7, 10, 8, 6};
    for (int i = 0; i < 4; i++) {
        double forward[16], backward[16];
        for (int k = 0; k < 16; k++) forward[k] = 1.0 / chunks[i], backward[k] = 2.0 / chunks[i];
        const double busy = 3.0 * micros[i], bubble = 3.0 * (pp[i] - 1) / chunks[i];
        const double all = cost_pipeline(pp[i], chunks[i], micros[i], forward, backward, 0);
        EXPECT(fabs(all - busy - bubble) < 1e-9, "%d stages: %g, not %g + %g", pp[i], all, busy, bubble);
    }
}

/* A slow stage sets the pace: the others' work shows only where the pipeline fills and drains. */
TEST(cost_pipeline_uneven) {
    const double forward[] = {1, 3, 1}, backward[] = {1, 3, 1};
    EXPECT(fabs(cost_pipeline(3, 1, 10, forward, backward, 0) - (1 + 10 * 6 + 1)) < 1e-9);
    EXPECT(fabs(cost_pipeline(1, 1, 4, forward, backward, 5) - 8) < 1e-9, "no message, no hop");
    EXPECT(fabs(cost_pipeline(2, 1, 1, forward, backward, 0.5) - 9) < 1e-9, "down and up again");
}

static const Size tiny_size = {"tiny", 4, 64, 4, 128, 512, true};

TEST(cost_tensor_bytes) {
    const ModelConfig m = model_of(&tiny_size);
    Job j = job_of(&m, "h100", &gpt_habits, 1, 1, 2, 2, 4);
    /* Two micro steps of 256 rows in bf16. Of each sum over two ranks a rank sends one tensor's bytes; four a layer,
     * one for the embedding, one for the head, and what the ranks say of 256 rows of logits. */
    const double tensor = 256 * 64 * 2;
    EXPECT(cost_of(&j).traffic[BY_TENSOR].bytes == 2 * ((4 * 4 + 2) * tensor + 256 * sizeof(ClassPart)));
    j.o.sequence_parallel = true; /* halves of sums, and two operands gathered once more */
    const Cost c = cost_of(&j);
    EXPECT(c.traffic[BY_TENSOR].bytes == 0);
    EXPECT(c.traffic[BY_SEQUENCE].bytes == 2 * ((4 * 5 + 2) * tensor + 256 * sizeof(ClassPart)));
    EXPECT(c.traffic[BY_PIPELINE].bytes + c.traffic[BY_DATA].bytes + c.traffic[BY_TIED].bytes == 0);
}

TEST(cost_data_bytes) {
    const ModelConfig m = model_of(&tiny_size);
    const double layers = 4 * 12 * 64 * 64, others = (512 + 128) * 64;
    Job j = job_of(&m, "h100", &gpt_habits, 4, 1, 1, 1, 12);
    const double none = cost_of(&j).traffic[BY_DATA].bytes;
    j.o.zero = 1;
    const double one = cost_of(&j).traffic[BY_DATA].bytes;
    j.o.zero = 2;
    const double two = cost_of(&j).traffic[BY_DATA].bytes;
    EXPECT(none == 0.75 * 8 * (layers + others), "%g", none); /* fp32, there and back */
    /* Back as bf16; embeddings, whose lookup reads fp32, as that too. */
    EXPECT(one == 0.75 * ((4 + 2) * layers + (4 + 4 + 2) * others), "%g", one);
    EXPECT(two == one + 0.75 * 2 * 4 * layers, "%g", two); /* of layers each of three micro steps' */
}

TEST(cost_pipeline_bytes) {
    const ModelConfig m = model_of(&tiny_size);
    Job j = job_of(&m, "h100", &gpt_habits, 1, 4, 1, 1, 8);
    const Cost c = cost_of(&j);
    EXPECT(c.traffic[BY_PIPELINE].bytes == 2 * 8 * 128 * 64 * 2);
    EXPECT(c.traffic[BY_TIED].bytes == 512 * 64 * 4);
    EXPECT(c.bubble > 0 && c.traffic[BY_PIPELINE].exposed > 0);
}

TEST(cost_flops) {
    const ModelConfig m = model_of(&tiny_size);
    Job j = job_of(&m, "h100", &gpt_habits, 2, 1, 2, 1, 8);
    const double tokens = 8 * 128, products = 6.0 * (4 * 12 * 64 * 64 + 512 * 64);
    const double attention = 4 * 14 * 64.5 * 64; /* 7 products over (T + 1) / 2 keys */
    const Cost c = cost_of(&j);
    EXPECT(fabs(c.model_flops / tokens / gpt_flops_per_token(&m, 128) - 1) < 1e-12);
    EXPECT(fabs(c.hardware_flops / tokens / (products + attention) - 1) < 1e-12, "%g a token",
           c.hardware_flops / tokens);
    j.o.recompute = RECOMPUTE_BLOCK; /* once more forward, but for the last product of each layer */
    const double again = 4 * (2.0 * 8 * 64 * 64 + 4 * 64.5 * 64);
    EXPECT(fabs(cost_of(&j).hardware_flops / tokens / (products + attention + again) - 1) < 1e-12);
}

TEST(cost_muon) {
    const ModelConfig m = model_of(&tiny_size);
    Job j = job_of(&m, "h100", &gpt_habits, 2, 1, 1, 1, 8);
    const double adamw = cost_of(&j).optimizer, C = 64;
    j.muon = true;
    /* Four matrices of C x C and two of C x 4 C in each of four layers, five rounds. */
    const double flops = 4 * 5 * (4 * 6 * C * C * C + 2 * (4 * C * C * 4 * C + 2 * C * C * C));
    const double more = flops / (j.gpu->product * COST_EFFICIENCY);
    EXPECT(fabs((cost_of(&j).optimizer - adamw) / more - 1) < 1e-9);
}

TEST(cost_adds_up) {
    const ModelConfig m = model_of(&korthikanti[1].model);
    Job j = job_of(&m, "h100", &gpt_habits, 4, 8, 8, 1, 256);
    j.o.zero = 1, j.o.interleave = 4;
    const Cost c = cost_of(&j);
    double sum = c.compute + c.optimizer + c.bubble;
    for (int i = 0; i < N_TRAFFIC; i++) {
        sum += c.traffic[i].exposed;
        EXPECT(c.traffic[i].exposed <= c.traffic[i].seconds * (1 + 1e-9) || i == BY_PIPELINE);
    }
    EXPECT(fabs(sum - c.seconds) < 1e-9);
    EXPECT(c.model_flops / c.seconds < 256 * j.gpu->tensor, "no faster than light");
}

TEST(cost_monotone) {
    const ModelConfig m = model_of(&korthikanti[1].model);
    Job j = job_of(&m, "h100", &gpt_habits, 4, 8, 8, 1, 128);
    const Cost c = cost_of(&j);
    Job k = j;
    k.efficiency *= 0.9;
    EXPECT(cost_of(&k).seconds > c.seconds);
    k = j, k.o.micro_steps *= 2;
    EXPECT(cost_of(&k).seconds < 2 * c.seconds, "the bubble is as long, and the batch twice");
    k = j, k.o.interleave = 2;
    EXPECT(cost_of(&k).bubble < c.bubble);
    k = j, k.o.recompute = RECOMPUTE_BLOCK;
    EXPECT(cost_of(&k).seconds > c.seconds && cost_of(&k).model_flops == c.model_flops);
    Gpu slow = *j.gpu;
    slow.network /= 4;
    k = j, k.gpu = &slow;
    EXPECT(cost_of(&k).seconds > c.seconds);
}

TEST(cost_gpus) {
    Err e = {0};
    EXPECT(!gpu_find("h1000", &e));
    EXPECT_ERR(&e, "unknown GPU \"h1000\"; there are a100-40, a100, ");
}
