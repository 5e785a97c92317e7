/* fuzz_checkpoint.c - any bytes as one file of a run: its config.json, manifest.json or state.json, or an llm.c .bin that
 * a model is made from. What is refused must be refused with a message; what is taken must load. */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"config.json", "manifest.json", "state.json", "model.bin"};
static char root[] = "/dev/shm/gpt-fuzz-XXXXXX"; /* in memory: each input writes two files */
static Gpt *model;

static Gpt *make(const ModelConfig *c, Err *e) {
    const GptOptions o = {.ops = &cpu_ops, .B = 1, .T = 1};
    return gpt_create(c, &o, e);
}

static void clean_up(void) {
    dir_remove(root, &(Err){0});
}

/* A run with one checkpoint, of which each input spoils one file. */
static void start(void) {
    Err e = {0};
    Config c;
    TrainState s = {0};
    config_defaults(&c);
    c.model.vocab_size = 5, c.model.n_positions = 3, c.model.n_embd = 4, c.model.n_layer = 1,
    c.model.n_head = 2;
    CHECK(mkdtemp(root) && cpu_ops.start(1, &e));
    atexit(clean_up);
    model = make(&c.model, &e);
    state_set(&s, "step", 1);
    CHECK(model && checkpoint_save(root, 1, model, NULL, 0, &s, NULL, 0, &e), "%s", e.msg);
    state_free(&s);
}

static void write_raw(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

/* An llm.c file with small numbers in its header, which the fuzzer would hardly find, and zeros after its bytes: up
 * to the size that its header asks for, or not. */
static void write_llmc(const char *path, const uint8_t *data, size_t n) {
    enum { WORDS = 10 };
    const int64_t C = n > 4 ? data[4] % 16 : 0, L = n > 2 ? data[2] % 4 : 0;
    uint32_t header[256] = {20240326, n > 7 && data[7] & 1 ? 3 : 5};
    for (size_t i = 0; i < 6 && i < n; i++) header[2 + i] = data[i];
    header[4] = (uint32_t)L, header[6] = (uint32_t)C;
    if (n > 7 && data[7] & 2) header[8] = 1;
    Str s = {0};
    str_put(&s, header, sizeof header);
    if (n > WORDS) str_put(&s, data + WORDS, n - WORDS);
    if (n > 7 && data[7] & 4) {
        size_t bytes = (size_t)((header[7] + header[2]) * C + L * (12 * C * C + 13 * C) + 2 * C);
        bytes = sizeof header + bytes * (data[7] & 1 ? 4 : 2);
        if (s.n > bytes) s.n = bytes;
        static const uint8_t zeros[4096];
        while (s.n < bytes) str_put(&s, zeros, bytes - s.n < sizeof zeros ? bytes - s.n : sizeof zeros);
    }
    write_raw(path, (uint8_t *)s.p, s.n);
    str_free(&s);
}

/* What llm.c's header describes has the size of the file, so it is small and must load. */
static void try_llmc(const char *path) {
    Err e = {0};
    ModelConfig c;
    if (!model_config_of(path, &c, &e)) return;
    Gpt *m = make(&c, &e);
    CHECK(m && (model_load(m, path, &e) || strstr(e.msg, "crc32")), "%s", e.msg);
    gpt_free(m);
}

static void try_run(const char *dir) {
    Err e = {0}, e2 = {0}, e3 = {0};
    TrainState s = {0};
    ModelConfig c;
    char *found;
    int64_t step;
    CHECK(checkpoint_newest(root, NULL, &found, &step, &e), "%s", e.msg);
    free(found);
    if (!model_config_of(dir, &c, &e2)) CHECK(*e2.msg);
    if (!checkpoint_load(dir, model, NULL, 0, &s, &e3)) CHECK(*e3.msg);
    state_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!model) start();
    if (n == 0) return 0;
    int which = data[0] % 4;
    char *dir = path_join(root, "checkpoints/step-00000001"), *path = path_join(dir, names[which]),
         *good = NULL;
    size_t good_n = 0;
    Err e = {0};
    if (which < 3) CHECK(file_read(path, 1 << 20, &good, &good_n, &e), "%s", e.msg);
    if (which < 3)
        write_raw(path, data + 1, n - 1), try_run(dir);
    else
        write_llmc(path, data + 1, n - 1), try_llmc(path);
    write_raw(path, (uint8_t *)good, good_n);
    free(good);
    free(path);
    free(dir);
    return 0;
}
