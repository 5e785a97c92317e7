/* test_checkpoint.c - checkpoint.c: round trips to the bit, kills at every system call of a save, damage, foreign
 * model folders, llm.c's files. */
#include "checkpoint.h"
#include "safetensors.h"
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a tiny model with known numbers --------------------------------------------------------------------- */

typedef struct Rig {
    Gpt *m;
    int64_t n;
    float *mv[2];
    Moment moments[2];
    TrainState state;
} Rig;

static ModelConfig tiny(const char *type, bool tied) {
    Config c;
    config_defaults(&c);
    snprintf(c.model.model_type, sizeof c.model.model_type, "%s", type);
    c.model.vocab_size = 131, c.model.n_positions = 12, c.model.n_embd = 16, c.model.n_layer = 2;
    c.model.n_head = 2;
    c.model.tie_word_embeddings = tied;
    return c.model;
}

static Gpt *make(const ModelConfig *c) {
    Err e = {0};
    const GptOptions o = {.ops = &cpu_ops, .B = 1, .T = 4};
    int threads = omp_get_max_threads(); /* nothing here is worth waking the others for */
    EXPECT(cpu_ops.start(1, &e));
    Gpt *m = gpt_create(c, &o, &e);
    omp_set_num_threads(threads);
    EXPECT_OK(&e);
    return m;
}

static Rig rig(const ModelConfig *c) {
    Rig r = {.m = make(c)};
    r.n = gpt_elements(r.m);
    for (int i = 0; i < 2; i++) {
        r.mv[i] = xcalloc((size_t)r.n, sizeof(float));
        r.moments[i] = (Moment){i ? "v" : "m", r.mv[i], r.n};
    }
    return r;
}

static void unrig(Rig *r) {
    gpt_free(r->m);
    free(r->mv[0]);
    free(r->mv[1]);
    state_free(&r->state);
}

static float *set_of(const Rig *r, int set) {
    return set == 0 ? gpt_weights(r->m) : r->mv[set - 1];
}

/* Any bit pattern may come, NaN and subnormals too (Steele et al. 2014's mixing function, for speed). */
static uint32_t number(uint64_t seed, int set, int row, int64_t i) {
    uint64_t z = (seed << 40 ^ (uint64_t)set << 32 ^ (uint64_t)row << 24) + (uint64_t)i * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

/* Numbers that depend on the seed, everywhere but in the padding. */
static void fill(Rig *r, uint64_t seed) {
    int n;
    const Param *table = gpt_table(r->m, &n);
    for (int set = 0; set < 3; set++)
        for (int row = 0; row < n; row++)
            for (int64_t i = 0; i < table[row].count; i++) {
                uint32_t u = number(seed, set, row, i);
                memcpy(set_of(r, set) + table[row].at + i, &u, 4);
            }
    state_set(&r->state, "step", (double)seed);
}

static bool holds(const Rig *r, uint64_t seed) {
    int n, wrong = 0;
    const Param *table = gpt_table(r->m, &n);
    for (int set = 0; set < 3; set++)
        for (int row = 0; row < n; row++)
            for (int64_t i = 0; i < table[row].padded; i++) {
                uint32_t u = i < table[row].count ? number(seed, set, row, i) : 0;
                wrong += memcmp(set_of(r, set) + table[row].at + i, &u, 4) != 0;
            }
    return wrong == 0 && state_get(&r->state, "step", -1) == (double)seed;
}

static bool save(Rig *r, const char *run, int64_t step, int64_t keep, Err *e) {
    fill(r, (uint64_t)step);
    return checkpoint_save(run, step, r->m, r->moments, 2, &r->state, NULL, keep, e);
}

/* Loads the newest checkpoint of a run; its step if everything is as `fill` left it, -1 if not, -2 if there is none. */
static int64_t load(Rig *r, const char *run, Err *e) {
    char *dir;
    int64_t step = -1;
    fill(r, 99999); /* what is not read stays wrong */
    if (!checkpoint_newest(run, NULL, &dir, &step, e)) return -1;
    if (!dir) return -2;
    bool ok = checkpoint_load(dir, r->m, r->moments, 2, &r->state, e) && holds(r, (uint64_t)step);
    free(dir);
    return ok ? step : -1;
}

/* What `load` finds, and what it says on stderr (malloc'd). */
static int64_t load_and_listen(Rig *r, const char *run, char **said) {
    Err e = {0};
    FILE *f = tmpfile();
    fflush(stderr);
    int keep = dup(2);
    dup2(fileno(f), 2);
    int64_t step = load(r, run, &e);
    fflush(stderr);
    dup2(keep, 2);
    close(keep);
    *said = xcalloc(4096, 1);
    rewind(f);
    EXPECT(fread(*said, 1, 4095, f) < 4095);
    fclose(f);
    EXPECT_OK(&e);
    return step;
}

static void flip_bit(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    EXPECT(f && fseek(f, at, at < 0 ? SEEK_END : SEEK_SET) == 0);
    int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 4, f);
    fclose(f);
}

/* DIR/NAME, good until three more are made. */
static const char *under(const char *dir, const char *name) {
    static char *path[4];
    static int at;
    char *made = path_join(dir, name);
    at = (at + 1) % 4;
    free(path[at]);
    return path[at] = made;
}

static char scratch_dir[64];

static void scratch_remove(void) {
    dir_remove(scratch_dir, &(Err){0});
}

/* An empty folder where fsync costs nothing, if there is such a place: these tests save some thousand times. */
static const char *scratch(void) {
    char *dir = scratch_dir;
    if (access("/dev/shm", W_OK) != 0) return test_dir();
    if (!*dir) atexit(scratch_remove);
    snprintf(dir, sizeof scratch_dir, "/dev/shm/gpt-test-%d", (int)getpid());
    EXPECT(dir_remove(dir, &(Err){0}) && dir_make(dir, &(Err){0}));
    return dir;
}

/* ---- saving and resuming --------------------------------------------------------------------------------- */

TEST(checkpoint_round_trip) {
    const ModelConfig kinds[] = {tiny("gpt2", true), tiny("gpt2", false), tiny("openai-gpt", true)};
    for (int k = 0; k < 3; k++) {
        Err e = {0};
        const char *run = scratch();
        Rig r = rig(&kinds[k]);
        state_set(&r.state, "third", 1.0 / 3);
        state_set(&r.state, "best", INFINITY);
        state_set(&r.state, "large", 9007199254740991.0);
        EXPECT(save(&r, run, 7, 0, &e));
        EXPECT_OK(&e);
        unrig(&r);
        r = rig(&kinds[k]);
        EXPECT(load(&r, run, &e) == 7, "kind %d", k);
        EXPECT_OK(&e);
        EXPECT(state_get(&r.state, "third", 0) == 1.0 / 3 && state_get(&r.state, "best", 0) == INFINITY);
        EXPECT(state_get(&r.state, "large", 0) == 9007199254740991.0 && state_get(&r.state, "none", 5) == 5);
        unrig(&r);
    }
}

TEST(checkpoint_keeps_the_newest) {
    Err e = {0};
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    char **names, *text, *said;
    int n;
    size_t size;
    EXPECT(dir_make(under(run, "checkpoints/step-00000001.tmp"), &e));
    EXPECT(dir_make(under(run, "checkpoints/notes"), &e)); /* the user's */
    for (int step = 5; step <= 25; step += 5) EXPECT(save(&r, run, step, 2, &e));
    EXPECT_OK(&e);
    EXPECT(dir_list(under(run, "checkpoints"), &names, &n, &e));
    EXPECT(n == 3 && !strcmp(names[0], "notes") && !strcmp(names[1], "step-00000020") &&
               !strcmp(names[2], "step-00000025"),
           "%d names, the first %s", n, names[0]);
    names_free(names, n);
    EXPECT(file_read(under(run, "latest"), 100, &text, &size, &e));
    EXPECT(!strcmp(text, "checkpoints/step-00000025\n"), "%s", text);
    free(text);
    /* After a fall back behind a damaged newer one, the only complete one is not among "the oldest". */
    EXPECT(dir_remove(under(run, "checkpoints/step-00000020"), &e));
    flip_bit(under(run, "checkpoints/step-00000025/model.safetensors"), -1);
    EXPECT(save(&r, run, 22, 1, &e) && save(&r, run, 23, 1, &e));
    EXPECT(load_and_listen(&r, run, &said) == 23 && strstr(said, "step-00000025 is damaged"), "%s", said);
    free(said);
    EXPECT(!path_exists(under(run, "checkpoints/step-00000022")));
    unrig(&r);
}

TEST(checkpoint_carries_unknown_values) {
    Err e = {0};
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c), later = rig(&c);
    state_set(&r.state, "mixture.weight.3", 0.25);
    EXPECT(save(&r, run, 1, 0, &e) && load(&later, run, &e) == 1);
    EXPECT(save(&later, run, 2, 0, &e));
    state_free(&r.state);
    EXPECT(load(&r, run, &e) == 2 && state_get(&r.state, "mixture.weight.3", 0) == 0.25);
    unrig(&r);
    unrig(&later);
}

TEST(checkpoint_none_yet) {
    Err e = {0};
    char *dir;
    int64_t step;
    EXPECT(checkpoint_newest(under(scratch(), "nothing"), NULL, &dir, &step, &e) && !dir);
    EXPECT(dir_make(under(scratch(), "run/checkpoints/step-00000003.tmp"), &e));
    EXPECT(checkpoint_newest(under(scratch(), "run"), NULL, &dir, &step, &e) && !dir);
}

/* ---- kills ----------------------------------------------------------------------------------------------- */

/* A child that saves one checkpoint, stopped at each system call. Returns how far it came: killed before its system
 * call number `calls` (true), or done before that. */
static bool killed_at(Rig *r, const char *run, int64_t name, uint64_t content, int calls) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        Err e = {0};
        fill(r, content);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        bool ok = checkpoint_save(run, name, r->m, r->moments, 2, &r->state, NULL, 1, &e);
        _exit(ok ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    for (int i = 0; i < 2 * calls && WIFSTOPPED(status); i++) { /* two stops a call: before it and after */
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
        waitpid(pid, &status, 0);
    }
    if (WIFEXITED(status)) return EXPECT(WEXITSTATUS(status) == 0), false;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return true;
}

static bool ptrace_works(void) {
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Step 1 is saved; saving step `name` is killed before each of its system calls in turn. What can then be loaded is
 * step 1 or the new one, whole; and the next save goes through and cleans up. */
static void kill_at_each_call(int64_t name) {
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    bool killed = true;
    int found[2] = {0}, leftovers = 0, n;
    for (int calls = 0; killed && calls < 2000; calls++) {
        Err e = {0};
        char **names, *dir;
        int64_t step;
        EXPECT(dir_remove(run, &e) && save(&r, run, 1, 1, &e));
        killed = killed_at(&r, run, name, 2, calls);
        state_set(&r.state, "step", 0);
        EXPECT(checkpoint_newest(run, NULL, &dir, &step, &e) && dir, "after %d calls", calls);
        EXPECT(dir && checkpoint_load(dir, r.m, r.moments, 2, &r.state, &e), "after %d calls", calls);
        EXPECT_OK(&e);
        int which = state_get(&r.state, "step", 0) == 2;
        EXPECT(holds(&r, which ? 2 : 1) && step == (which ? name : 1), "after %d calls", calls);
        found[which]++;
        free(dir);
        EXPECT(dir_list(under(run, "checkpoints"), &names, &n, &e));
        leftovers += n > 1;
        names_free(names, n);
        EXPECT(save(&r, run, 3, 1, &e) && dir_list(under(run, "checkpoints"), &names, &n, &e));
        EXPECT(n == 1 && !strcmp(names[0], "step-00000003"), "after %d calls: %d names", calls, n);
        names_free(names, n);
    }
    EXPECT(!killed && found[0] > 50 && found[1] > 3 && leftovers > 50, "%d %d %d", found[0], found[1],
           leftovers);
    unrig(&r);
}

TEST(checkpoint_killed_at_each_call) {
    if (!ptrace_works()) SKIP("ptrace is not allowed here");
    kill_at_each_call(2);
}

TEST(checkpoint_killed_while_replacing) {
    if (!ptrace_works()) SKIP("ptrace is not allowed here");
    kill_at_each_call(1);
}

/* The same on a real disk, at a random moment of the save that follows the first complete one. */
TEST(checkpoint_killed_at_random) {
    const char *run = test_dir();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    volatile int64_t *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (uint64_t round = 0; round < 6; round++) {
        Err e = {0};
        int64_t before = *done;
        pid_t pid = fork();
        if (pid == 0)
            for (int64_t step = before + 1;; *done = step++)
                if (!save(&r, run, step, 2, &e)) _exit(1);
        for (int ms = 0; *done == before && ms < 10000; ms++) usleep(1000);
        usleep((useconds_t)rand_below(1, RAND_TEST, 1, round, 10000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        int64_t step = load(&r, run, &e);
        EXPECT_OK(&e);
        EXPECT(*done > before && (step == *done || step == *done + 1), "found %lld, saved %lld",
               (long long)step, (long long)*done);
        *done = step;
    }
    munmap((void *)done, 4096);
    unrig(&r);
}

/* ---- damage ---------------------------------------------------------------------------------------------- */

TEST(checkpoint_damaged_falls_back) {
    static const struct {
        const char *file, *said;
        long cut, flip; /* length to cut to (-1: remove the file), or bit to flip */
    } damage[] = {
        {"model.safetensors", "step-00000002 is damaged (model.safetensors: 1000 bytes instead of ", 1000, 0},
        {"model.safetensors",
         "step-00000002 is damaged (model.safetensors: crc32 mismatch); falling back to step-00000001", 0,
         -20},
        {"optimizer.safetensors", "(optimizer.safetensors: crc32 mismatch)", 0, -20},
        {"optimizer.safetensors", "(optimizer.safetensors: No such file or directory)", -1, 0},
        {"state.json", "(state.json: crc32 mismatch)", 0, 8},
        {"config.json", "(config.json: 0 bytes instead of ", 0, 0},
        {"manifest.json", "(manifest.json is missing)", -1, 0},
        {"manifest.json", "(manifest.json is not a JSON object)", 70, 0},
        {"manifest.json", "(manifest.json does not list config.json)", 0, 16},
    };
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        Err e = {0};
        char path[256], *said;
        EXPECT(dir_remove(run, &e) && save(&r, run, 1, 0, &e) && save(&r, run, 2, 0, &e));
        snprintf(path, sizeof path, "%s/checkpoints/step-00000002/%s", run, damage[i].file);
        if (damage[i].flip)
            flip_bit(path, damage[i].flip);
        else
            EXPECT((damage[i].cut < 0 ? unlink(path) : truncate(path, damage[i].cut)) == 0);
        EXPECT(load_and_listen(&r, run, &said) == 1, "damage %zu", i);
        EXPECT(strstr(said, damage[i].said), "damage %zu: %s", i, said);
        free(said);
        /* and what belongs to step 1 is damaged as well */
        EXPECT(truncate(under(run, "checkpoints/step-00000001/state.json"), 1) == 0);
        EXPECT(load_and_listen(&r, run, &said) == -2);
        EXPECT(strstr(said, "step-00000001 is damaged (state.json: 1 bytes instead of"), "%s", said);
        EXPECT(strstr(said, "there is no other"), "%s", said);
        free(said);
    }
    unrig(&r);
}

/* A disk that fills up in the middle of a save, played by a limit on the size of files. */
TEST(checkpoint_failed_write_loses_nothing) {
    Err e = {0};
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    char **names;
    int n;
    struct rlimit old, small;
    EXPECT(save(&r, run, 1, 1, &e));
    getrlimit(RLIMIT_FSIZE, &old);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 100; limit < 100000; limit *= 4) {
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        EXPECT(!save(&r, run, 2, 1, &e), "limit %d", (int)limit);
        setrlimit(RLIMIT_FSIZE, &old);
        EXPECT(strstr(e.msg, "checkpoint of step 2 not saved: "), "%s", e.msg);
        EXPECT_ERR(&e, "cannot write: File too large");
        EXPECT(dir_list(under(run, "checkpoints"), &names, &n, &e) && n == 1);
        names_free(names, n);
        EXPECT(load(&r, run, &e) == 1);
    }
    signal(SIGXFSZ, handler);
    EXPECT(save(&r, run, 2, 1, &e) && load(&r, run, &e) == 2);
    unrig(&r);
}

/* ---- folders that many ranks wrote ----------------------------------------------------------------------- */

/* One file of tensors becomes three and their index, as ranks would have dealt them; what the manifest says of them is
 * added to *entries. */
static void split_file(const char *dir, const char *base, Str *entries) {
    enum { FILES = 3 };
    Err e = {0};
    Str whole = {0}, index = {0}, path = {0};
    SafeTensors s;
    uint32_t crc;
    uint64_t bytes;
    str_printf(&whole, "%s/%s.safetensors", dir, base);
    EXPECT(st_open(&s, whole.p, &e));
    for (int file = 0; file < FILES; file++) {
        StWriter *w = st_writer();
        path.n = 0;
        str_printf(&path, "%s/%s-%05d-of-%05d.safetensors", dir, base, file + 1, FILES);
        for (int i = file; i < s.n; i += FILES) {
            st_writer_add(w, s.tensors[i].name, ST_F32, s.tensors[i].rank, s.tensors[i].shape);
            str_printf(&index, "%s\"%s\": \"%s\"", index.n ? ", " : "", s.tensors[i].name,
                       strrchr(path.p, '/') + 1);
        }
        EXPECT(st_writer_begin(w, path.p, &e));
        for (int i = file; i < s.n; i += FILES)
            st_writer_put(w, s.tensors[i].data, (size_t)(s.tensors[i].end - s.tensors[i].begin));
        EXPECT(st_writer_commit(w, &crc, &bytes, &e));
        str_printf(entries, ", \"%s\": {\"bytes\": %d, \"crc32\": \"%08x\"}", strrchr(path.p, '/') + 1,
                   (int)bytes, crc);
    }
    st_close(&s);
    path.n = 0;
    str_printf(&path, "{\"weight_map\": {%s}}", index.p);
    str_printf(entries, ", \"%s.safetensors.index.json\": {\"bytes\": %d, \"crc32\": \"%08x\"}", base,
               (int)path.n, crc32_of(0, path.p, path.n));
    EXPECT(unlink(whole.p) == 0);
    str_puts(&whole, ".index.json");
    EXPECT(file_write(whole.p, path.p, path.n, &e));
    str_free(&whole), str_free(&index), str_free(&path);
}

/* Makes of a checkpoint of one rank what three would have written. */
static void split_folder(const char *dir) {
    Err e = {0};
    Str entries = {0}, manifest = {0};
    static const char *const kept[] = {"config.json", "state.json"};
    split_file(dir, "model", &entries);
    split_file(dir, "optimizer", &entries);
    for (int i = 0; i < 2; i++) {
        char *text;
        size_t n;
        EXPECT(file_read(under(dir, kept[i]), 1 << 20, &text, &n, &e));
        str_printf(&entries, ", \"%s\": {\"bytes\": %d, \"crc32\": \"%08x\"}", kept[i], (int)n,
                   crc32_of(0, text, n));
        free(text);
    }
    str_printf(&manifest, "{\"files\": {%s}}", entries.p + 2);
    EXPECT(file_write(under(dir, "manifest.json"), manifest.p, manifest.n, &e));
    EXPECT_OK(&e);
    str_free(&entries), str_free(&manifest);
}

static bool same_bytes(const char *a, const char *b) {
    Err e = {0};
    Map x = {0}, y = {0};
    bool same = map_open(&x, a, &e) && map_open(&y, b, &e) && x.n == y.n && !memcmp(x.p, y.p, x.n);
    map_close(&x), map_close(&y);
    return same;
}

TEST(checkpoint_of_several_files) {
    Err e = {0};
    const char *run = scratch();
    char *dir = path_join(run, "checkpoints/step-00000002"), *whole = path_join(run, "whole");
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    EXPECT(save(&r, run, 1, 0, &e) && save(&r, run, 2, 0, &e));
    EXPECT(model_save(r.m, whole, NULL, &e));
    EXPECT(model_convert(dir, "llmc", under(run, "whole.bin"), &e));
    split_folder(dir);
    EXPECT(load(&r, run, &e) == 2);
    EXPECT(model_convert(run, "hf", under(run, "out"), &e));
    EXPECT_OK(&e);
    EXPECT(same_bytes(under(run, "out/model.safetensors"), under(whole, "model.safetensors")));
    EXPECT(same_bytes(under(run, "out/manifest.json"), under(whole, "manifest.json")));
    EXPECT(model_convert(run, "llmc", under(run, "out.bin"), &e));
    EXPECT(same_bytes(under(run, "out.bin"), under(run, "whole.bin")));
    /* It counts as complete, and goes with its files when it is the oldest. */
    EXPECT(save(&r, run, 3, 2, &e) && path_exists(dir) &&
           !path_exists(under(run, "checkpoints/step-00000001")));
    EXPECT(save(&r, run, 4, 2, &e) && !path_exists(dir));
    EXPECT_OK(&e);
    unrig(&r);
    free(dir);
    free(whole);
}

TEST(checkpoint_of_several_files_damaged) {
    static const struct {
        const char *file, *said;
        bool gone;
        bool of_model; /* the model alone, without the optimizer's state, is damaged too */
    } damage[] = {
        {"model-00002-of-00003.safetensors", "(model-00002-of-00003.safetensors: crc32 mismatch)", false,
         true},
        {"model-00003-of-00003.safetensors", "(model-00003-of-00003.safetensors: No such file", true, true},
        {"model.safetensors.index.json", "(model.safetensors.index.json: crc32 mismatch)", false, true},
        {"optimizer-00001-of-00003.safetensors", "(optimizer-00001-of-00003.safetensors: crc32 mismatch)",
         false, false},
        {"optimizer-00003-of-00003.safetensors", "(optimizer-00003-of-00003.safetensors: No such file", true,
         false},
        {"optimizer.safetensors.index.json", "(optimizer.safetensors.index.json: No such file", true, false},
    };
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        Err e = {0};
        char path[256], *said;
        EXPECT(dir_remove(run, &e) && save(&r, run, 1, 0, &e) && save(&r, run, 2, 0, &e));
        snprintf(path, sizeof path, "%s/checkpoints/step-00000002", run);
        split_folder(path);
        snprintf(path, sizeof path, "%s/checkpoints/step-00000002/%s", run, damage[i].file);
        if (damage[i].gone)
            EXPECT(unlink(path) == 0);
        else
            flip_bit(path, -5);
        EXPECT(load_and_listen(&r, run, &said) == 1 && strstr(said, damage[i].said), "%zu: %s", i, said);
        free(said);
        *strrchr(path, '/') = 0;
        EXPECT(model_load(r.m, path, &e) == !damage[i].of_model, "damage %zu", i);
        if (damage[i].of_model) EXPECT_ERR(&e, "the folder is damaged");
    }
    unrig(&r);
}

TEST(checkpoint_needs_its_optimizer) {
    Err e = {0};
    const char *run = scratch();
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    char *dir = NULL;
    int64_t step;
    EXPECT(save(&r, run, 1, 0, &e) && checkpoint_newest(run, NULL, &dir, &step, &e));
    EXPECT(!checkpoint_load(dir, r.m, r.moments, 1, &r.state, &e)); /* saved with two, loaded with one */
    EXPECT_ERR(&e, "tensor v.h.0.");
    r.moments[1].prefix = "u";
    EXPECT(!checkpoint_load(dir, r.m, r.moments, 2, &r.state, &e));
    EXPECT_ERR(&e, "optimizer.safetensors: tensor u.wte.weight is missing");
    free(dir);
    unrig(&r);
}

/* ---- model folders --------------------------------------------------------------------------------------- */

typedef struct Foreign {
    const char *prefix, *skip, *extra, *wrong; /* tensors to leave out, to add, to give another shape */
    StDtype dtype;
    int files;  /* 1: model.safetensors; more: shards and their index */
    float head; /* added to lm_head.weight, which is written if not NAN */
} Foreign;

/* A small number that 16-bit formats hold exactly. */
static float small(int row, int64_t i) {
    return (float)((row * 7 + i * 3) % 64) / 32;
}

static void add_tensor(StWriter *w, const char *name, const Foreign *f, const Param *p) {
    uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
    char full[256];
    if (f->wrong && strstr(p->name, f->wrong))
        shape[0] = (uint64_t)p->shape[1], shape[1] = (uint64_t)p->shape[0];
    snprintf(full, sizeof full, "%s%s", f->prefix, name);
    st_writer_add(w, full, f->dtype, p->rank, shape);
}

static void put_numbers(StWriter *w, StDtype d, int row, int64_t n, float add) {
    for (int64_t i = 0; i < n; i++) {
        float x = small(row, i) + add;
        uint16_t h = d == ST_F16 ? f16_from_f32(x) : bf16_from_f32(x);
        if (d == ST_F32)
            st_writer_put(w, &x, 4);
        else
            st_writer_put(w, &h, 2);
    }
}

static void write_shard(const char *path, const Foreign *f, const Param *table, int n, int file, Str *index) {
    Err e = {0};
    uint32_t crc;
    uint64_t bytes;
    StWriter *w = st_writer();
    const char *base = strrchr(path, '/') + 1;
    for (int pass = 0; pass < 2; pass++) {
        if (pass) EXPECT(st_writer_begin(w, path, &e));
        for (int i = file; i < n; i += f->files) {
            if (f->skip && !strcmp(table[i].name, f->skip)) continue;
            if (pass)
                put_numbers(w, f->dtype, i, table[i].count, 0);
            else {
                add_tensor(w, table[i].name, f, &table[i]);
                str_printf(index, "%s\"%s%s\": \"%s\"", index->n ? ", " : "", f->prefix, table[i].name, base);
            }
        }
        if (file == 0 && f->extra) {
            if (pass)
                put_numbers(w, ST_F32, 0, 4, 0);
            else
                st_writer_add(w, f->extra, ST_F32, 1, (uint64_t[]){4});
        }
        if (file == 0 && !isnan(f->head)) {
            if (pass)
                put_numbers(w, f->dtype, 0, table[0].count, f->head);
            else
                st_writer_add(w, "lm_head.weight", f->dtype, 2, (uint64_t[]){131, 16});
        }
    }
    EXPECT(st_writer_commit(w, &crc, &bytes, &e));
}

static void write_folder(const char *dir, const ModelConfig *c, const Foreign *f) {
    Err e = {0};
    Str json = {0}, index = {0}, text = {0};
    int n;
    int64_t elements;
    Param *table = gpt_params(c, NULL, &n, &elements);
    EXPECT(dir_remove(dir, &e) && dir_make(dir, &e));
    model_print(c, &json);
    EXPECT(file_write(under(dir, "config.json"), json.p, json.n, &e));
    for (int file = 0; file < f->files; file++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", file + 1, f->files);
        write_shard(under(dir, f->files > 1 ? name : "model.safetensors"), f, table, n, file, &index);
    }
    str_printf(&text, "{\"metadata\": {}, \"weight_map\": {%s}}", index.p);
    if (f->files > 1) EXPECT(file_write(under(dir, "model.safetensors.index.json"), text.p, text.n, &e));
    free(table);
    str_free(&json);
    str_free(&index);
    str_free(&text);
}

static bool is_small(const Gpt *m) {
    int n, wrong = 0;
    const Param *table = gpt_table(m, &n);
    for (int row = 0; row < n; row++)
        for (int64_t i = 0; i < table[row].padded; i++)
            wrong += gpt_weights((Gpt *)m)[table[row].at + i] != (i < table[row].count ? small(row, i) : 0);
    return wrong == 0;
}

TEST(checkpoint_foreign_folders) {
    char *dir = path_join(scratch(), "hf");
    static const Foreign good[] = {
        {.prefix = "", .dtype = ST_F32, .files = 1, .head = NAN},
        {.prefix = "transformer.", .dtype = ST_F32, .files = 1, .head = NAN},
        {.prefix = "transformer.", .dtype = ST_F16, .files = 1, .head = NAN},
        {.prefix = "", .dtype = ST_BF16, .files = 3, .head = NAN},
        {.prefix = "transformer.",
         .dtype = ST_F32,
         .files = 1,
         .head = 0}, /* tied, and written all the same */
        {.prefix = "", .dtype = ST_F32, .files = 1, .head = NAN, .extra = "h.0.attn.bias"},
        {.prefix = "", .dtype = ST_F32, .files = 1, .head = NAN, .extra = "transformer.h.1.attn.masked_bias"},
    };
    for (int type = 0; type < 2; type++)
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            Err e = {0};
            ModelConfig c = tiny(type ? "openai-gpt" : "gpt2", true), found;
            write_folder(dir, &c, &good[i]);
            EXPECT(model_config_of(dir, &found, &e) && !strcmp(found.model_type, c.model_type));
            Gpt *m = make(&found);
            EXPECT(model_load(m, good[i].files > 1 ? dir : under(dir, "model.safetensors"), &e), "case %zu",
                   i);
            EXPECT_OK(&e);
            EXPECT(is_small(m), "case %zu", i);
            gpt_free(m);
        }
    free(dir);
}

TEST(checkpoint_foreign_folders_refused) {
    char *dir = path_join(scratch(), "hf");
    static const struct {
        Foreign f;
        const char *said;
    } bad[] = {
        {{.prefix = "", .head = NAN, .skip = "h.1.ln_2.bias"},
         "hf/model.safetensors: tensor h.1.ln_2.bias is missing"},
        {{.prefix = "model.", .head = NAN}, "tensor wte.weight is missing"},
        {{.prefix = "", .head = NAN, .extra = "h.2.ln_1.weight"}, "tensor h.2.ln_1.weight has no place"},
        {{.prefix = "", .head = NAN, .wrong = "h.0.mlp.c_fc.weight"},
         "tensor h.0.mlp.c_fc.weight has shape [64, 16]; [16, 64] is expected"},
        {{.prefix = "", .head = 1}, "lm_head.weight differs from the embedding"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err e = {0};
        ModelConfig c = tiny("gpt2", true);
        Foreign f = bad[i].f;
        f.files = 1;
        write_folder(dir, &c, &f);
        Gpt *m = make(&c);
        EXPECT(!model_load(m, dir, &e), "case %zu", i);
        EXPECT_ERR(&e, bad[i].said);
        gpt_free(m);
    }
    free(dir);
}

TEST(checkpoint_other_model_refused) {
    Err e = {0};
    char *dir = path_join(scratch(), "hf");
    ModelConfig c = tiny("gpt2", true), other = c;
    write_folder(dir, &c, &(Foreign){.prefix = "", .files = 1, .head = NAN});
    other.n_head = 4; /* the same shapes */
    Gpt *m = make(&other);
    EXPECT(!model_load(m, dir, &e));
    EXPECT_ERR(&e, "its n_head is 2; the model to fill has 4");
    gpt_free(m);
    c.tie_word_embeddings = false;
    m = make(&c);
    EXPECT(!model_load(m, dir, &e));
    EXPECT_ERR(&e, "its tie_word_embeddings is 1");
    gpt_free(m);
    free(dir);
}

TEST(checkpoint_find) {
    Err e = {0};
    const char *dir = scratch();
    char *found, *home, *run = path_join(dir, "run");
    ModelConfig c = tiny("gpt2", true);
    Rig r = rig(&c);
    EXPECT(save(&r, run, 1, 0, &e) && save(&r, run, 2, 0, &e));
    EXPECT(model_find(run, &found, &e) && !strcmp(found, under(run, "checkpoints/step-00000002")), "%s",
           found);
    free(found);
    /* `latest` wins over a newer number that --resume has passed over; a newer one wins over a broken `latest`. */
    EXPECT(file_write(under(run, "latest"), "checkpoints/step-00000001\n", 26, &e));
    EXPECT(model_find(run, &found, &e) && !strcmp(found, under(run, "checkpoints/step-00000001")));
    free(found);
    EXPECT(file_write(under(run, "latest"), "rubbish", 7, &e));
    EXPECT(model_find(run, &found, &e) && !strcmp(found, under(run, "checkpoints/step-00000002")));
    EXPECT(!model_tokenizer(run));
    EXPECT(file_write(under(found, "vocab.json"), "{}", 2, &e) &&
           file_write(under(found, "merges.txt"), "", 0, &e));
    home = model_tokenizer(run);
    EXPECT(home && !strcmp(home, found));
    free(home);
    free(found);
    EXPECT(!model_find(under(dir, "none"), &found, &e));
    EXPECT_ERR(&e, "none: no such model");
    EXPECT(!model_find(dir, &found, &e));
    EXPECT_ERR(&e, "is not a model folder");
    EXPECT(dir_make(under(dir, "empty/checkpoints"), &e) && !model_find(under(dir, "empty"), &found, &e));
    EXPECT_ERR(&e, "no complete checkpoint yet");
    EXPECT(file_write(under(dir, "config.json"), "{}", 2, &e) && !model_find(dir, &found, &e));
    EXPECT_ERR(&e, "has a config.json but no model.safetensors");
    EXPECT(file_write(under(dir, "pytorch_model.bin"), "PK", 2, &e) && !model_find(dir, &found, &e));
    EXPECT_ERR(&e, "convert them to safetensors");
    EXPECT(!model_find(under(dir, "pytorch_model.bin"), &found, &e));
    EXPECT_ERR(&e, "convert them to safetensors");
    EXPECT(!model_find(under(dir, "config.json"), &found, &e));
    EXPECT_ERR(&e, "is not a model");
    unrig(&r);
    free(run);
}

TEST(checkpoint_model_save) {
    Err e = {0};
    const char *dir = scratch();
    char *tok = path_join(dir, "tok"), *text;
    size_t size;
    ModelConfig c = tiny("gpt2", false);
    Rig r = rig(&c), other = rig(&c);
    SafeTensors s;
    EXPECT(dir_make(tok, &e) && file_write(under(tok, "vocab.json"), "{\"a\": 0}", 8, &e));
    fill(&r, 3);
    EXPECT(model_save(r.m, under(dir, "out"), tok, &e));
    EXPECT(file_read(under(dir, "out/vocab.json"), 100, &text, &size, &e) && !strcmp(text, "{\"a\": 0}"));
    free(text);
    EXPECT(st_open(&s, under(dir, "out"), &e));
    EXPECT(st_find(&s, "transformer.h.1.ln_2.bias") && st_find(&s, "lm_head.weight") &&
           !st_find(&s, "transformer.lm_head.weight"));
    EXPECT(st_find(&s, "transformer.wte.weight") && st_find(&s, "transformer.wte.weight")->shape[0] == 131);
    st_close(&s);
    EXPECT(model_load(other.m, under(dir, "out"), &e));
    memcpy(other.mv[0], r.mv[0], (size_t)r.n * 4);
    memcpy(other.mv[1], r.mv[1], (size_t)r.n * 4);
    state_set(&other.state, "step", 3);
    EXPECT(holds(&other, 3));
    EXPECT(!model_save(r.m, under(dir, "out"), NULL, &e));
    EXPECT_ERR(&e, "exists already");
    flip_bit(under(dir, "out/model.safetensors"), -4);
    EXPECT(!model_load(other.m, under(dir, "out"), &e));
    EXPECT_ERR(&e, "out/model.safetensors: crc32 mismatch");
    unrig(&r);
    unrig(&other);
    free(tok);
}

/* ---- llm.c's files --------------------------------------------------------------------------------------- */

/* The file as llm.c's own writer lays it out, from the description in its header. */
static void llmc_bytes(Str *s, const ModelConfig *c, int version, const Gpt *m) {
    const int Vp = 256, L = (int)c->n_layer, C = (int)c->n_embd;
    int32_t header[256] = {20240326, version, (int)c->n_positions, (int)c->vocab_size, L, (int)c->n_head,
                           C,        Vp};
    static const char *const order[] = {
        "wte.weight",         "wpe.weight",       "ln_1.weight",        "ln_1.bias",
        "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
        "ln_2.weight",        "ln_2.bias",        "mlp.c_fc.weight",    "mlp.c_fc.bias",
        "mlp.c_proj.weight",  "mlp.c_proj.bias",  "ln_f.weight",        "ln_f.bias"};
    int n;
    const Param *table = gpt_table(m, &n);
    str_put(s, header, sizeof header);
    for (int k = 0; k < 16; k++)
        for (int row = 0; row < n; row++) { /* the table's rows of one kind rise by layer */
            const Param *p = &table[row];
            const char *base = strncmp(p->name, "h.", 2) ? p->name : strchr(p->name + 2, '.') + 1;
            bool matrix = strstr(p->name, ".c_") && p->rank == 2;
            if (strcmp(base, order[k])) continue;
            for (int64_t i = 0; i < (k ? p->count : (int64_t)Vp * C); i++) {
                int64_t rows = p->shape[0], from = matrix ? i % rows * p->shape[1] + i / rows : i;
                float x = i < p->count ? small(row, from) : 0;
                uint16_t h = bf16_from_f32(x);
                str_put(s, version == 3 ? (void *)&x : (void *)&h, version == 3 ? 4 : 2);
            }
        }
}

TEST(checkpoint_llmc_import_export) {
    const char *dir = scratch();
    ModelConfig c = tiny("gpt2", true), found;
    Gpt *m = make(&c);
    for (int version = 3; version <= 5; version += 2) {
        Err e = {0};
        Str s = {0};
        char *ours;
        size_t n;
        llmc_bytes(&s, &c, version, m);
        EXPECT(file_write(under(dir, "theirs.bin"), s.p, s.n, &e));
        EXPECT(model_config_of(under(dir, "theirs.bin"), &found, &e) && found.n_head == 2);
        EXPECT(model_load(m, under(dir, "theirs.bin"), &e));
        EXPECT_OK(&e);
        EXPECT(is_small(m), "version %d", version);
        EXPECT(model_convert(under(dir, "theirs.bin"), "llmc", under(dir, "ours.bin"), &e));
        EXPECT(file_read(under(dir, "ours.bin"), 1 << 24, &ours, &n, &e));
        /* The same bytes, but for the words that llm.c leaves zero. */
        if (version == 3) EXPECT(n == s.n && !memcmp(ours, s.p, 32) && !memcmp(ours + 40, s.p + 40, n - 40));
        flip_bit(under(dir, "ours.bin"), -8);
        EXPECT(!model_load(m, under(dir, "ours.bin"), &e));
        EXPECT_ERR(&e, "ours.bin: crc32 mismatch");
        unlink(under(dir, "ours.bin"));
        free(ours);
        str_free(&s);
    }
    gpt_free(m);
}

TEST(checkpoint_llmc_refused) {
    static const struct {
        int at;
        int32_t value;
        size_t cut;
        const char *said;
    } bad[] = {
        {0, 20240520, 0, "is not an llm.c model"},
        {1, 1, 0, "version 1 of llm.c's model file"},
        {4, 3, 0, "takes"},
        {4, -1, 0, "its header says layers"},
        {5, 3, 0, "n_head 3 does not divide"},
        {6, 1 << 20, 0, "takes"},
        {7, 130, 0, "pads the vocabulary 131 to only"},
        {0, 20240326, 1, "truncated?"},
        {0, 20240326, 1 << 30, "is not an llm.c"},
    };
    const char *dir = scratch();
    ModelConfig c = tiny("gpt2", true), found;
    Gpt *m = make(&c);
    Str good = {0};
    llmc_bytes(&good, &c, 3, m);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err e = {0};
        size_t n = bad[i].cut == 1 << 30 ? 1000 : good.n - bad[i].cut;
        Str s = {0};
        str_put(&s, good.p, n);
        memcpy(s.p + 4 * bad[i].at, &bad[i].value, 4);
        EXPECT(file_write(under(dir, "x.bin"), s.p, s.n, &e));
        EXPECT(!model_config_of(under(dir, "x.bin"), &found, &e), "case %zu", i);
        EXPECT_ERR(&e, bad[i].said);
        str_free(&s);
    }
    str_free(&good);
    gpt_free(m);
}

TEST(checkpoint_convert) {
    Err e = {0};
    const char *dir = scratch();
    ModelConfig c = tiny("gpt2", true);
    write_folder(under(dir, "hf"), &c, &(Foreign){.prefix = "", .dtype = ST_F16, .files = 2, .head = NAN});
    EXPECT(model_convert(under(dir, "hf"), "llmc", under(dir, "a.bin"), &e));
    EXPECT(model_convert(under(dir, "a.bin"), "hf", under(dir, "back"), &e));
    EXPECT_OK(&e);
    Gpt *m = make(&c);
    EXPECT(model_load(m, under(dir, "back"), &e) && is_small(m));
    gpt_free(m);
    EXPECT(!model_convert(under(dir, "hf"), "gguf", under(dir, "b"), &e));
    EXPECT_ERR(&e, "not a format");
    EXPECT(!model_convert(under(dir, "hf"), "hf", under(dir, "back"), &e));
    EXPECT_ERR(&e, "exists already");
    c.tie_word_embeddings = false;
    write_folder(under(dir, "hf"), &c, &(Foreign){.prefix = "", .files = 1, .head = NAN});
    EXPECT(!model_convert(under(dir, "hf"), "llmc", under(dir, "b.bin"), &e));
    EXPECT_ERR(&e, "only models with tied embeddings");
    EXPECT(!path_exists(under(dir, "b.bin")));
}
