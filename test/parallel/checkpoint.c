/* checkpoint.c - what one grid of ranks saves, every other loads: weights and moments, number for number. And a save that
 * fails on one rank, and files that were damaged, are the same news to all. On as many ranks as the launcher started; each
 * counts what it finds wrong, rank 0 prints, and the closing line counts cases. */
#include "checkpoint.h"
#include "safetensors.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static Comm *world;
static char dir[64];
static int passed, failed;

/* True on all ranks if it is on all. Rank 0 counts it as a case, and names it if it failed. */
static bool settle(bool right, const char *what, const char *more) {
    double wrong = !right;
    comm_host_max(world, &wrong, 1);
    if (comm_world_rank() == 0) {
        passed += !wrong, failed += wrong > 0;
        if (wrong > 0) printf("FAILED  %s %s\n", what, more);
    }
    return !wrong;
}

/* Takes away what a case left. */
static void clear(void) {
    comm_barrier(world);
    if (comm_world_rank() == 0) dir_remove(dir, &(Err){0});
    comm_barrier(world);
}

/* ---- a model with known numbers -------------------------------------------------------------------------- */

typedef struct Shape {
    int dp, pp, tp, zero, interleave;
} Shape;

typedef struct Rig {
    Comm *comm;
    Gpt *m; /* NULL on ranks beyond the grid */
    Range *owned;
    int n_owned;
    int64_t total;
    float *mv[2];
    Moment moments[2];
    TrainState state;
} Rig;

static const char *name_of(const Shape *s) {
    static char name[4][64];
    static int at;
    char *to = name[at = (at + 1) % 4];
    snprintf(to, sizeof *name, "dp%d pp%d tp%d zero%d x%d", s->dp, s->pp, s->tp, s->zero, s->interleave);
    return to;
}

static ModelConfig model(const char *type, bool tied, int64_t vocab, int64_t positions, int64_t width) {
    Config c;
    config_defaults(&c);
    snprintf(c.model.model_type, sizeof c.model.model_type, "%s", type);
    c.model.vocab_size = vocab, c.model.n_positions = positions, c.model.n_embd = width;
    c.model.n_layer = c.model.n_head = 4;
    c.model.tie_word_embeddings = tied;
    return c.model;
}

/* `flat`: the second set has nothing of the matrices inside the layers, as with Muon. */
static Rig rig(const ModelConfig *c, const Shape *s, bool flat) {
    Err e = {0};
    const Grid g = grid_at(s->dp, s->pp, s->tp, comm_world_rank());
    Rig r = {.comm = comm_open(&g, &cpu_ops, false, &e)};
    CHECK(r.comm, "%s", e.msg);
    if (comm_world_rank() >= g.ranks) return r;
    const GptOptions o = {.ops = &cpu_ops,
                          .grid = g,
                          .comm = r.comm,
                          .zero = s->zero,
                          .interleave = s->interleave,
                          .micro_steps = s->pp,
                          .bucket_bytes = 8000, /* so that there are several */
                          .compute = DT_F32,
                          .train = true,
                          .B = 1,
                          .T = 4};
    r.m = gpt_create(c, &o, &e);
    CHECK(r.m, "%s", e.msg);
    r.owned = gpt_owned(r.m, g.dp_rank, &r.n_owned, &r.total);
    for (int i = 0; i < 2; i++) {
        int64_t n = r.total;
        int rows;
        const Param *table = gpt_table(r.m, &rows);
        for (int p = 0; p < rows && flat && i == 1; p++)
            if (table[p].parts && table[p].at < n) n = table[p].at;
        r.mv[i] = xcalloc((size_t)n, sizeof(float));
        r.moments[i] = (Moment){i ? "v" : "m", r.mv[i], n};
    }
    return r;
}

static void unrig(Rig *r) {
    if (r->m) gpt_free(r->m);
    free(r->owned);
    free(r->mv[0]);
    free(r->mv[1]);
    state_free(&r->state);
    comm_close(r->comm);
}

/* Element i of a row of the whole model's table. Any bits may come, those of NaN too. */
static uint32_t number(uint64_t seed, int set, int row, int64_t i) {
    uint64_t z = (seed << 40 ^ (uint64_t)set << 32 ^ (uint64_t)row << 24) + (uint64_t)i * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)((z ^ z >> 27) >> 16);
}

/* The place of element `at` of the weights in a set; -1 if this rank has none there. */
static int64_t place_of(const Rig *r, int set, int64_t at) {
    int64_t before = 0;
    if (set == 0) return at;
    for (int i = 0; i < r->n_owned; before += r->owned[i++].n)
        if (at >= r->owned[i].at && at < r->owned[i].at + r->owned[i].n) {
            before += at - r->owned[i].at;
            return before < r->moments[set - 1].n ? before : -1;
        }
    return -1;
}

/* Writes the numbers of `seed` everywhere in this rank's memory, or counts what is not so. The padding is zero. */
static int64_t visit(const Rig *r, uint64_t seed, bool write) {
    int n;
    int64_t wrong = 0;
    const Param *table = r->m ? gpt_table(r->m, &n) : NULL;
    for (int set = 0; set < 3 && r->m; set++) {
        float *to = set ? r->mv[set - 1] : gpt_weights(r->m);
        for (const Param *p = table; p < table + n; p++)
            for (int64_t i = 0; i < p->padded; i++) {
                const int64_t at = place_of(r, set, p->at + i), numbers = p->outer * p->inner;
                uint32_t u = 0;
                if (at < 0) continue;
                if (i < numbers)
                    u = number(seed, set, p->row, i / p->inner * p->pitch + p->first + i % p->inner);
                if (write)
                    memcpy(to + at, &u, sizeof u);
                else
                    wrong += memcmp(to + at, &u, sizeof u) != 0;
            }
    }
    return wrong;
}

static bool save(Rig *r, const char *run, int64_t step, Err *e) {
    if (!r->m) return true;
    visit(r, (uint64_t)step, true);
    state_set(&r->state, "step", (double)step);
    return checkpoint_save(run, step, r->m, r->moments, 2, &r->state, NULL, 2, e);
}

/* The step that was found, if all is as it was saved; -1 if not. */
static int64_t load(Rig *r, const char *run, Err *e) {
    char *found = NULL;
    int64_t step = -1;
    if (!r->m) return -1;
    visit(r, 999, true); /* what is not read stays wrong */
    if (!checkpoint_newest(run, r->comm, &found, &step, e) || !found) return -1;
    if (!checkpoint_load(found, r->m, r->moments, 2, &r->state, e)) step = -1;
    free(found);
    if (step >= 0 && (visit(r, (uint64_t)step, false) || state_get(&r->state, "step", 0) != (double)step))
        step = -1;
    return step;
}

/* ---- from grid to grid ----------------------------------------------------------------------------------- */

static const Shape shapes[] = {
    {1, 1, 1, 0, 1}, {2, 1, 1, 0, 1}, {1, 1, 2, 0, 1}, {1, 2, 1, 0, 1}, {2, 1, 1, 1, 1}, {2, 1, 2, 0, 1},
    {1, 2, 2, 0, 1}, {2, 1, 2, 1, 1}, {4, 1, 1, 2, 1}, {1, 4, 1, 0, 1}, {1, 2, 1, 0, 2}, {1, 1, 4, 0, 1},
    {2, 2, 1, 1, 1}, {2, 2, 2, 1, 2}, {2, 2, 2, 0, 1}, {1, 2, 4, 0, 1}, {8, 1, 1, 1, 1}, {4, 1, 2, 2, 1}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static bool fits(const Shape *s, const ModelConfig *c) {
    Err e = {0};
    const GptOptions o = {.ops = &cpu_ops,
                          .grid = grid_at(s->dp, s->pp, s->tp, 0),
                          .zero = s->zero,
                          .interleave = s->interleave,
                          .micro_steps = s->pp,
                          .compute = DT_F32,
                          .train = true,
                          .B = 1,
                          .T = 4};
    return s->dp * s->pp * s->tp <= comm_world() && gpt_grid_check(c, &o, &e);
}

static char *run_of(int shape) {
    Str s = {0};
    str_printf(&s, "%s/run%d", dir, shape);
    return s.p;
}

/* Each of the shapes saves, each of them loads what each has saved. */
static void all_pairs(const char *what, const ModelConfig *c, const int *which, int n, bool flat) {
    Str text = {0};
    for (int a = 0; a < n; a++) {
        Err e = {0};
        char *run = run_of(a);
        if (!fits(&shapes[which[a]], c)) continue;
        Rig r = rig(c, &shapes[which[a]], flat);
        const bool ok = save(&r, run, 7 + a, &e);
        unrig(&r);
        text.n = 0;
        str_printf(&text, "%s: %s", name_of(&shapes[which[a]]), e.msg);
        settle(ok, what, text.p);
        free(run);
    }
    for (int b = 0; b < n; b++) {
        if (!fits(&shapes[which[b]], c)) continue;
        Rig r = rig(c, &shapes[which[b]], flat);
        for (int a = 0; a < n; a++) {
            Err e = {0};
            char *run = run_of(a);
            if (!fits(&shapes[which[a]], c)) continue;
            const bool ok = !r.m || load(&r, run, &e) == 7 + a;
            text.n = 0;
            str_printf(&text, "%s, read by %s: %s", name_of(&shapes[which[a]]), name_of(&shapes[which[b]]),
                       e.msg);
            settle(ok, what, text.p);
            free(run);
        }
        unrig(&r);
    }
    str_free(&text);
    clear();
}

/* ---- one rank's trouble is everyone's -------------------------------------------------------------------- */

static void flip_bit(const char *path) {
    FILE *f = fopen(path, "r+b");
    CHECK(f && fseek(f, -3, SEEK_END) == 0, "%s", path);
    const int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 4, f);
    fclose(f);
}

static int names_in(const char *run) {
    char path[256], **names;
    int n = -1;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    if (dir_list(path, &names, &n, &(Err){0})) names_free(names, n);
    return n;
}

/* The disk of one rank is full: no one has saved, what there was stays, nothing is left lying about. */
static void failed_save(const ModelConfig *c, const Shape *s, int rank) {
    Err e = {0};
    struct rlimit old, none;
    char *run = run_of(0);
    Rig r = rig(c, s, false);
    settle(save(&r, run, 1, &e), "save", e.msg);
    getrlimit(RLIMIT_FSIZE, &old);
    none = (struct rlimit){300, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    if (comm_world_rank() == rank) setrlimit(RLIMIT_FSIZE, &none);
    bool ok = !r.m || (!save(&r, run, 2, &e) && strstr(e.msg, "checkpoint of step 2 not saved: ") &&
                       strstr(e.msg, "File too large"));
    setrlimit(RLIMIT_FSIZE, &old);
    settle(ok, "a disk that is full on one rank", e.msg);
    settle(names_in(run) == 1, "what it leaves behind", "");
    e = (Err){0};
    settle(!r.m || load(&r, run, &e) == 1, "what was there before", e.msg);
    e = (Err){0};
    settle(save(&r, run, 2, &e) && (!r.m || load(&r, run, &e) == 2), "the next save", e.msg);
    unrig(&r);
    free(run);
    clear();
}

/* Hosts that do not share a file system, played by folders that stand elsewhere. */
static void files_not_shared(const ModelConfig *c, const Shape *s) {
    Err e = {0};
    char *home = path_join(dir, comm_world_rank() == 1 ? "b" : "a"), before[512];
    CHECK(getcwd(before, sizeof before) && dir_make(home, &e) && chdir(home) == 0, "%s", home);
    Rig r = rig(c, s, false);
    const bool refused = !r.m || (!save(&r, "run", 1, &e) && strstr(e.msg, "must see the same files"));
    CHECK(chdir(before) == 0, "%s", before);
    settle(refused, "files that are not shared", e.msg);
    unrig(&r);
    free(home);
    clear();
}

/* Shards that are damaged, or gone: all ranks go back to the checkpoint before. */
static void damaged_shard(const ModelConfig *c, const Shape *s, const char *file, bool gone) {
    Err e = {0};
    char path[256], *run = run_of(0);
    Rig r = rig(c, s, false);
    bool ok = save(&r, run, 1, &e) && save(&r, run, 2, &e);
    settle(ok, "save", e.msg);
    if (comm_world_rank() == 0) {
        snprintf(path, sizeof path, "%s/checkpoints/step-00000002/%s", run, file);
        if (!gone) flip_bit(path);
        if (gone) CHECK(unlink(path) == 0, "%s", path);
    }
    comm_barrier(world);
    settle(!r.m || load(&r, run, &e) == 1, file, e.msg);
    unrig(&r);
    free(run);
    clear();
}

/* A folder that many wrote is one model to a single process. */
static void exported(const ModelConfig *c, const Shape *s) {
    Err e = {0};
    char *run = run_of(0), out[128];
    Rig r = rig(c, s, false);
    SafeTensors many, one;
    bool ok = save(&r, run, 3, &e);
    comm_barrier(world);
    snprintf(out, sizeof out, "%s/hf", dir);
    if (comm_world_rank() == 0 && ok) {
        ok = model_convert(run, "hf", out, &e) && st_open(&one, out, &e);
        char *found = NULL;
        ok = ok && model_find(run, &found, &e) && st_open(&many, found, &e) && one.n == many.n &&
             many.n_maps > 1;
        for (int i = 0; i < one.n && ok; i++)
            ok = !strcmp(one.tensors[i].name, many.tensors[i].name) &&
                 !memcmp(one.tensors[i].data, many.tensors[i].data,
                         (size_t)(one.tensors[i].end - one.tensors[i].begin));
        free(found);
        st_close(&one), st_close(&many);
    }
    settle(ok, "export of", name_of(s));
    unrig(&r);
    free(run);
    clear();
}

/* Every rank writes about as much: two files differ by no more than the largest tensor. */
static void dealt_evenly(const ModelConfig *c, const Shape *s) {
    Err e = {0};
    const int64_t largest = 4 * c->n_embd * model_inner(c), ranks = s->dp * s->pp * s->tp;
    char *run = run_of(0), path[256];
    Rig r = rig(c, s, false);
    bool ok = save(&r, run, 1, &e);
    comm_barrier(world);
    for (int base = 0; base < 2 && comm_world_rank() == 0; base++) {
        int64_t least = INT64_MAX, most = 0;
        for (int64_t i = 1; i <= ranks; i++) {
            struct stat st = {0};
            snprintf(path, sizeof path, "%s/checkpoints/step-00000001/%s-%05d-of-%05d.safetensors", run,
                     base ? "optimizer" : "model", (int)i, (int)ranks);
            ok = ok && stat(path, &st) == 0;
            if (st.st_size < least) least = st.st_size;
            if (st.st_size > most) most = st.st_size;
        }
        ok = ok && most - least <= largest;
    }
    settle(ok, "files of one size of", name_of(s));
    unrig(&r);
    free(run);
    clear();
}

static void open_world(void) {
    Err e = {0};
    const Grid g = grid_at(comm_world(), 1, 1, comm_world_rank());
    world = comm_open(&g, &cpu_ops, false, &e);
    CHECK(world, "%s", e.msg);
    if (comm_world_rank() == 0)
        snprintf(dir, sizeof dir, "%s/gpt-parallel-%d", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
                 (int)getpid());
    comm_host_broadcast(world, dir, sizeof dir, 0);
}

int main(void) {
    Err e = {0};
    int every[N_SHAPES];
    for (int i = 0; i < N_SHAPES; i++) every[i] = i;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!comm_start(&e) || !cpu_ops.start(1, &e)) return printf("%s\n", e.msg), 1;
    open_world();
    const ModelConfig tied = model("gpt2", true, 131, 12, 16), untied = model("gpt2", false, 131, 12, 16);
    const ModelConfig first = model("openai-gpt", true, 300, 12, 16),
                      wide = model("gpt2", true, 1500, 20, 320);
    all_pairs("tied", &tied, every, N_SHAPES, false);
    all_pairs("untied", &untied, (int[]){0, 6, 13, 11}, 4, false);
    all_pairs("gpt1", &first, (int[]){0, 5, 9, 13}, 4, false);
    all_pairs("muon", &tied, (int[]){0, 1, 3, 9, 10}, 5, true);
    all_pairs("several blocks a tensor", &wide, (int[]){0, 6, 7, 13}, 4, false);
    if (comm_world() >= 4) {
        for (int rank = 0; rank < 4; rank++) failed_save(&tied, &shapes[5], rank);
        files_not_shared(&tied, &shapes[5]);
        damaged_shard(&tied, &shapes[7], "model-00003-of-00004.safetensors", false);
        damaged_shard(&tied, &shapes[7], "optimizer-00002-of-00004.safetensors", false);
        damaged_shard(&tied, &shapes[7], "optimizer-00004-of-00004.safetensors", true);
        damaged_shard(&tied, &shapes[7], "model.safetensors.index.json", false);
        dealt_evenly(&wide, &shapes[5]);
        exported(&tied, &shapes[6]);
        exported(&untied, &shapes[7]);
    }
    if (comm_world_rank() == 0) printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    comm_close(world);
    comm_stop();
    return failed > 0;
}
