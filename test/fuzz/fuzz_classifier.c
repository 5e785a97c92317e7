/* fuzz_classifier.c - any bytes as a classifier: it is refused, or scores a text. The first byte says which of the
 * header's promises are kept for the fuzzer, so that it need not find them. */
#include "classifier_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC = 1, SIZE = 2, CRC = 4 };

/* The file's size, which may become smaller. */
static size_t keep_promises(uint8_t *file, size_t n, int what) {
    ClassifierHeader h;
    if (n < sizeof h) return n;
    memcpy(&h, file, sizeof h);
    if (what & MAGIC) {
        memcpy(h.magic, CLASSIFIER_MAGIC, sizeof h.magic);
        h.version = CLASSIFIER_VERSION;
        h.labels = 1 + h.labels % 3;
        h.ngrams = 1 + h.ngrams % NGRAMS_LONGEST;
    }
    if (what & SIZE && what & MAGIC && n >= classifier_weights_at(h.labels) + 4 * h.labels) {
        h.buckets = (n - classifier_weights_at(h.labels)) / 4 / h.labels;
        n = classifier_weights_at(h.labels) + h.buckets * 4 * h.labels;
    }
    if (what & CRC) {
        h.crc = crc32_of(0, file + sizeof h, n - sizeof h);
        h.header_crc = crc32_of(0, &h, offsetof(ClassifierHeader, header_crc));
    }
    memcpy(file, &h, sizeof h);
    return n;
}

static char dir[64], path[96]; /* one file in memory, written again for each input */

static void clean_up(void) {
    Err e = {0};
    dir_remove(dir, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!*dir) {
        Err e = {0};
        snprintf(dir, sizeof dir, "/dev/shm/fuzz-classifier-%d", getpid());
        snprintf(path, sizeof path, "%s/%s", dir, CLASSIFIER_FILE);
        CHECK(dir_make(dir, &e) && !atexit(clean_up));
    }
    if (!n) return 0;
    uint8_t *file = xmalloc(n);
    memcpy(file, data + 1, n - 1);
    size_t size = keep_promises(file, n - 1, data[0]);
    FILE *f = fopen(path, "w");
    CHECK(f && fwrite(file, 1, size, f) == size && !fclose(f));
    Err e = {0};
    Classifier *c = classifier_open(dir, &e);
    CHECK(c || e.code);
    double scores[CLASSIFIER_LABELS];
    if (c) classifier_scores(c, (const char *)data, n, scores);
    for (int k = 0; c && k < classifier_labels(c); k++)
        CHECK(!(scores[k] < 0 || scores[k] > 1) && classifier_label(c, k));
    classifier_close(c);
    free(file);
    return 0;
}
