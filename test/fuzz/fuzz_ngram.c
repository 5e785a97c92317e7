/* fuzz_ngram.c - any bytes as an n-gram model: it is refused, or answers. The first byte says which of the header's
 * promises are kept for the fuzzer, so that it need not find them; the last 32 are a text to ask about. */
#include "ngram_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC = 1, SIZE = 2, CRC = 4, ENTRIES = 8, WORDS = 16 };

/* An entry that is found, in the first free place from its bucket on. */
static void put_entry(uint64_t *table, const NgramHeader *h, uint64_t hash, uint32_t codes) {
    uint64_t at = ngram_bucket(hash, h->home_buckets) * NGRAM_BUCKET;
    while (at + 1 < h->buckets * NGRAM_BUCKET && table[at]) at++;
    if (at + 1 < h->buckets * NGRAM_BUCKET) table[at] = hash << 32 | codes | 1 << 16;
}

static void keep_promises(uint8_t *file, size_t n, int what, Span text) {
    if (n < NGRAM_TABLE + 64) return;
    NgramHeader h;
    memcpy(&h, file, sizeof h);
    uint64_t *table = xmalloc(n - NGRAM_TABLE);
    memcpy(table, file + NGRAM_TABLE, n - NGRAM_TABLE);
    if (what & MAGIC)
        memcpy(h.magic, NGRAM_MAGIC, sizeof h.magic), h.version = NGRAM_VERSION, h.unit &= 1,
                                                      h.order = 2 + h.order % 7;
    if (what & SIZE) h.buckets = (n - NGRAM_TABLE) / 64, h.home_buckets = 1 + h.home_buckets % h.buckets;
    if (what & SIZE && what & ENTRIES) {
        table[h.buckets * NGRAM_BUCKET - 1] = 0;
        for (uint64_t id = HASH_UNK; id <= HASH_EOS; id++)
            put_entry(table, &h, ngram_first(id), file[sizeof h]);
        Span word;
        for (uint64_t hash = HASH_BOS; what & WORDS && ngram_next((NgramUnit)(h.unit & 1), &text, &word);) {
            uint64_t w = ngram_word((NgramUnit)(h.unit & 1), word);
            put_entry(table, &h, ngram_first(w), file[sizeof h + 1]);
            put_entry(table, &h, ngram_join(ngram_first(w), hash), file[sizeof h + 2]);
            hash = w;
        }
    }
    if (what & CRC) {
        h.table_crc = crc32_of(0, table, (n - NGRAM_TABLE) / 64 * 64);
        h.header_crc = crc32_of(0, &h, offsetof(NgramHeader, header_crc));
    }
    memcpy(file, &h, sizeof h);
    memcpy(file + NGRAM_TABLE, table, n - NGRAM_TABLE);
    free(table);
}

static char dir[64], path[96]; /* one file in memory, written again for each input */

static void clean_up(void) {
    Err e = {0};
    dir_remove(dir, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    enum { TEXT = 32 };
    if (!*dir) {
        Err e = {0};
        snprintf(dir, sizeof dir, "/dev/shm/fuzz-ngram-%d", getpid());
        snprintf(path, sizeof path, "%s/%s", dir, NGRAM_FILE);
        CHECK(dir_make(dir, &e) && !atexit(clean_up));
    }
    if (n < 1 + TEXT) return 0;
    size_t size =
        (n - 1 - TEXT) < NGRAM_TABLE ? n - 1 - TEXT : NGRAM_TABLE + (n - 1 - TEXT - NGRAM_TABLE) / 64 * 64;
    uint8_t *file = xmalloc(size + 1);
    memcpy(file, data + 1, size);
    Span text = {(const char *)data + n - TEXT, TEXT};
    keep_promises(file, size, data[0], text);
    FILE *f = fopen(path, "w");
    CHECK(f && fwrite(file, 1, size, f) == size && !fclose(f));
    Err e = {0};
    Ngram *m = ngram_open(dir, &e);
    CHECK(m || e.code);
    if (m) CHECK(ngram_perplexity(m, text.p, text.n) > 0);
    ngram_close(m);
    free(file);
    return 0;
}
