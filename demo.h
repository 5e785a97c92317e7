/* demo.h - floor 2: the embedded corpus. Short English stories from an unambiguous probabilistic grammar of
 * our own, so the exact probability of each document, and so the floor of any model's loss, is known. */
#ifndef GPT_DEMO_H
#define GPT_DEMO_H

#include "util.h"

/* Append document `index` of the corpus with this seed to *text: 50-200 words, no newline at the end. Returns
 * its exact log-probability under the grammar, in nats (negative). Thread-safe. */
double demo_document(uint64_t seed, uint64_t index, Str *text);

/* The exact entropy of one document in nats, and its expected length in bytes, computed from the grammar. */
void demo_entropy(double *nats_per_document, double *bytes_per_document);

/* Write documents 0, 1, 2, ... as .jsonl lines {"text": ..., "nats": -log p} (gzip'd if the name ends in .gz)
 * until `bytes` bytes of text or `documents` documents are written, whichever comes first. */
bool demo_write(const char *path, uint64_t seed, uint64_t bytes, uint64_t documents, Err *e);
#endif
