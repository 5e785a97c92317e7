/* fuzz_tokenizer.c - any bytes as text, as text to learn from, as tokenizer.json, as merges.txt. Encoding
 * must give the ids of the definition and decode to what went in; a tokenizer that was learnt or that
 * opened must save, and open again to the same. */
#include "tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/dev/shm/gpt-fuzz-XXXXXX"; /* in memory: most inputs write files */
static char *json_path, *vocab_path, *merges_path, *text_path, *saved_path;
static Tokenizer *learnt;
static Str vocab; /* {"!": 0, ... without the closing brace: all bytes */

static void clean_up(void) {
    dir_remove(root, &(Err){0});
}

static void write_raw(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static Tokenizer *learn(const void *text, size_t n, int32_t vocab_size, Err *e) {
    write_raw(text_path, text, n);
    return tokenizer_train((const char *const[]){text_path}, 1, NULL, vocab_size, 1, e);
}

static void start(void) {
    static const char text[] = "the them there other thin thick it's we'll aaaaaaaa abababab  \n\n\t 1984 "
                               "\xc3\xa9\xc3\xa8 \xe6\xbc\xa2";
    Err e = {0};
    char *data, *end;
    size_t n;
    CHECK(mkdtemp(root));
    atexit(clean_up);
    json_path = path_join(root, "tokenizer.json"), vocab_path = path_join(root, "vocab.json");
    merges_path = path_join(root, "merges.txt"), text_path = path_join(root, "text.txt");
    saved_path = path_join(root, "saved");
    learnt = learn(text, sizeof text - 1, 290, &e);
    CHECK(learnt && dir_make(saved_path, &e) && tokenizer_save(learnt, saved_path, &e), "%s", e.msg);
    char *saved = path_join(saved_path, "vocab.json");
    CHECK(file_read(saved, 1 << 20, &data, &n, &e) && (end = strstr(data, ": 255")), "%s", e.msg);
    str_put(&vocab, data, (size_t)(end - data) + 5);
    free(data), free(saved);
}

/* By the definition: each merge in order, wherever it can be, from the left. */
static void merge_plainly(const Tokenizer *t, const uint8_t *p, size_t n, Ids *out) {
    out->id = xrealloc(out->id, (out->n + n) * sizeof *out->id);
    int32_t *id = out->id + out->n;
    for (size_t i = 0; i < n; i++) id[i] = t->byte_id[p[i]];
    for (int rank = 0; rank < t->n_merges; rank++) {
        size_t left = 0;
        for (size_t i = 0; i < n; i++) {
            bool here = i + 1 < n && id[i] == t->merge[rank].left && id[i + 1] == t->merge[rank].right;
            id[left++] = here ? t->merge[rank].id : id[i];
            i += here;
        }
        n = left;
    }
    out->n += n;
}

static void try_text(const Tokenizer *t, const uint8_t *p, size_t n) {
    Err e = {0};
    Str back = {0};
    for (SpecialMode mode = SPECIAL_SPLIT; mode <= SPECIAL_TEXT; mode++) {
        Ids ids = {0}, again = {0};
        back.n = 0;
        if (tokenizer_encode(t, (const char *)p, n, mode, &ids, &e)) {
            CHECK(tokenizer_decode(t, ids.id, ids.n, &back, &e));
            CHECK(t->gpt1 || (back.n == n && (!n || !memcmp(back.p, p, n))));
            CHECK(tokenizer_encode(t, (const char *)p, n, mode, &again, &e));
            CHECK(ids.n == again.n && (!n || !memcmp(ids.id, again.id, ids.n * sizeof *ids.id)));
        } else {
            CHECK(mode == SPECIAL_REFUSE && t->n_special > 0);
        }
        if (mode == SPECIAL_TEXT && !t->gpt1 && t->in_order && tokenizer_valid_prefix(p, n) == n) {
            Ids plain = {0};
            for (size_t i = 0, length; i < n; i += length)
                length = tokenizer_piece(p + i, n - i), merge_plainly(t, p + i, length, &plain);
            CHECK(ids.n == plain.n && (!n || !memcmp(ids.id, plain.id, ids.n * sizeof *ids.id)));
            ids_free(&plain);
        }
        ids_free(&ids), ids_free(&again);
    }
    str_free(&back);
}

static void try_tokenizer(Tokenizer *t, const Err *opening, const uint8_t *text, size_t n) {
    Err e = {0};
    if (!t) {
        CHECK(*opening->msg);
        return;
    }
    CHECK(tokenizer_save_as(t, saved_path, n % 2 ? MERGES_PAIRS : MERGES_STRINGS, &e), "%s", e.msg);
    Tokenizer *back = tokenizer_open(saved_path, &e);
    CHECK(back && back->n == t->n && back->n_merges == t->n_merges, "%s", e.msg);
    CHECK(back->bytes.n == t->bytes.n && !memcmp(back->bytes.p, t->bytes.p, t->bytes.n));
    CHECK(!t->n_merges || !memcmp(back->merge, t->merge, (size_t)t->n_merges * sizeof *t->merge));
    try_text(t, text, n < 512 ? n : 512);
    tokenizer_free(back);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Err e = {0};
    Str s = {0};
    if (!learnt) start();
    if (!n) return 0;
    const uint8_t *rest = data + 1;
    switch (n--, *data % 5) {
    case 0: try_text(learnt, rest, n < 2048 ? n : 2048); break;
    case 1: try_tokenizer(n ? learn(rest, n, 280, &e) : NULL, n ? &e : &(Err){.msg = "-"}, rest, n); break;
    case 2: write_raw(json_path, rest, n), try_tokenizer(tokenizer_open(json_path, &e), &e, rest, n); break;
    case 3: /* a tokenizer.json whose vocabulary the fuzzer need not find */
        str_printf(&s, "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": %s", vocab.p);
        str_put(&s, rest, n);
        write_raw(json_path, s.p, s.n), try_tokenizer(tokenizer_open(json_path, &e), &e, rest, n);
        break;
    case 4: /* two files; the first line is the vocabulary's end */
        unlink(json_path);
        str_put(&s, vocab.p, vocab.n);
        const uint8_t *line = n ? memchr(rest, '\n', n) : NULL;
        if (line) str_put(&s, rest, (size_t)(line - rest));
        str_puts(&s, "}");
        write_raw(vocab_path, s.p, s.n);
        write_raw(merges_path, line ? line + 1 : rest, n - (line ? (size_t)(line + 1 - rest) : 0));
        try_tokenizer(tokenizer_open(root, &e), &e, rest, n);
        break;
    }
    str_free(&s);
    return 0;
}
