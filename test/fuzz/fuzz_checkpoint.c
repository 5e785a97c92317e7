/* fuzz_checkpoint.c - any bytes as one file of a run: its config.json, manifest.json or state.json, an llm.c .bin that
 * a model is made from, or the index of a model in two files. What is refused must be refused with a message; what is
 * taken must load. */
#include "checkpoint.h"
#include "safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BIN = 3, INDEX, N_KINDS };
static const char *const names[N_KINDS] = {"config.json", "manifest.json", "state.json", "model.bin",
                                           "model.safetensors.index.json"};
static char root[] = "/dev/shm/gpt-fuzz-XXXXXX"; /* in memory: each input writes two files */
static Gpt *model;

static Gpt *make(const ModelConfig *c, Err *e) {
    const GptOptions o = {.ops = &cpu_ops, .B = 1, .T = 1};
    return gpt_create(c, &o, e);
}

static void clean_up(void) {
    dir_remove(root, &(Err){0});
}

/* ROOT/split: the model of `from` in the files 1 and 2, one tensor here, the next there. */
static void write_split(const char *from) {
    Err e = {0};
    SafeTensors s;
    uint32_t crc;
    uint64_t bytes;
    char *dir = path_join(root, "split"), *config = path_join(from, "config.json"), *text;
    size_t n;
    CHECK(st_open(&s, from, &e) && dir_make(dir, &e) && file_read(config, 1 << 20, &text, &n, &e));
    for (int file = 0; file < 2; file++) {
        StWriter *w = st_writer();
        char *path = path_join(dir, file ? "2" : "1");
        for (int i = file; i < s.n; i += 2)
            st_writer_add(w, s.tensors[i].name, s.tensors[i].dtype, s.tensors[i].rank, s.tensors[i].shape);
        CHECK(st_writer_begin(w, path, &e), "%s", e.msg);
        for (int i = file; i < s.n; i += 2)
            st_writer_put(w, s.tensors[i].data, (size_t)(s.tensors[i].end - s.tensors[i].begin));
        CHECK(st_writer_commit(w, &crc, &bytes, &e), "%s", e.msg);
        free(path);
    }
    free(config);
    config = path_join(dir, "config.json");
    CHECK(file_write(config, text, n, &e), "%s", e.msg);
    st_close(&s);
    free(config);
    free(text);
    free(dir);
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
    char *found;
    CHECK(model_find(root, &found, &e), "%s", e.msg);
    write_split(found);
    free(found);
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

/* An index need not name all tensors, but all files that hold them: whatever it says, it loads all or nothing. */
static void try_split(const uint8_t *data, size_t n) {
    Err e = {0};
    char *dir = path_join(root, "split"), *path = path_join(dir, names[INDEX]);
    write_raw(path, data, n);
    if (!model_load(model, dir, &e)) CHECK(*e.msg);
    free(path);
    free(dir);
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
    const int which = data[0] % N_KINDS;
    if (which == INDEX) return try_split(data + 1, n - 1), 0;
    char *dir = path_join(root, "checkpoints/step-00000001"), *path = path_join(dir, names[which]),
         *good = NULL;
    size_t good_n = 0;
    Err e = {0};
    if (which < BIN) CHECK(file_read(path, 1 << 20, &good, &good_n, &e), "%s", e.msg);
    if (which < BIN)
        write_raw(path, data + 1, n - 1), try_run(dir);
    else
        write_llmc(path, data + 1, n - 1), try_llmc(path);
    write_raw(path, (uint8_t *)good, good_n);
    free(good);
    free(path);
    free(dir);
    return 0;
}
