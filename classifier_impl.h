/* classifier_impl.h - floor 2: what classifier.c and classifier_train.c share: features and the file.
 *
 * DIR/classifier.bin, little-endian: a ClassifierHeader; 64 bytes of name, 16 of calibration a label; zeros up to a
 * multiple of 64; then weights, those of a bucket for all labels side by side. */
#ifndef GPT_CLASSIFIER_IMPL_H
#define GPT_CLASSIFIER_IMPL_H

#include "classifier.h"
#include "words.h"

#include <math.h>

enum { CLASSIFIER_VERSION = 1, NGRAMS_LONGEST = 5, WORD_CHARS = 32 };
#define CLASSIFIER_MAGIC "gptclass"
#define CLASSIFIER_FILE  "classifier.bin"

typedef struct ClassifierHeader {
    char magic[8];
    uint32_t version, labels, ngrams;
    uint32_t crc; /* crc32 of all behind the header */
    uint64_t buckets;
    uint32_t chars;      /* longest n-grams of characters; 0: none */
    uint32_t header_crc; /* crc32 of all that comes before */
} ClassifierHeader;

/* A score is the logistic function of slope * x + offset, where x is what the weights sum to. */
typedef struct LabelInfo {
    char name[CLASSIFIER_NAME];
    double slope, offset;
} LabelInfo;

/* What a document is for. Equal texts are for the same, so nothing that is tested was learnt. */
typedef enum ClassifierPart { PART_TRAIN, PART_CALIBRATE, PART_TEST } ClassifierPart;

static inline ClassifierPart classifier_part(uint64_t hash, double held_out) {
    double u = (double)(hash_mix(hash) >> 11) * 0x1p-53;
    return u < held_out / 2 ? PART_TEST : u < held_out ? PART_CALIBRATE : PART_TRAIN;
}

static inline size_t classifier_weights_at(uint32_t labels) {
    return (sizeof(ClassifierHeader) + labels * sizeof(LabelInfo) + 63) / 64 * 64;
}

static inline double logistic(double x) {
    return 1 / (1 + exp(-x));
}

/* The features of a text as they come: for each word itself, the n-grams that end with it, and those of its characters,
 * as buckets. */
typedef struct Features {
    Span left;
    uint64_t buckets;
    int ngrams, chars, n_before;
    uint64_t before[NGRAMS_LONGEST]; /* hashes of the last words, the nearest first */
} Features;

static inline Features features_of(const char *text, size_t n, int ngrams, int chars, uint64_t buckets) {
    return (Features){.left = {text, n}, .buckets = buckets, .ngrams = ngrams, .chars = chars};
}

enum { FEATURES_AT_ONCE = 512 };
_Static_assert((WORD_CHARS + 1) * NGRAMS_LONGEST <= FEATURES_AT_ONCE, "a word's features come at once");
/* The next ones; 0 at the end. */
size_t features_next(Features *f, uint32_t bucket[FEATURES_AT_ONCE]);

/* What the sum of n features' weights is divided by. */
static inline double feature_scale(uint64_t n) {
    return n ? 1 / sqrt((double)n) : 0;
}
#endif
