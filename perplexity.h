/* perplexity.h - floor 6: documents by how well a GPT expects them. */
#ifndef GPT_PERPLEXITY_H
#define GPT_PERPLEXITY_H

#include "gpt.h"
#include "tokenizer.h"

typedef struct PerplexityJob {
    const char *const *files;
    int n_files;
    const char *out;   /* folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json */
    const char *key;   /* the field that holds the text; NULL: "text" */
    const char *model; /* where the model came from: another one makes another job */
    Gpt *gpt;
    const Tokenizer *tokenizer;
    double least, most; /* a document stays between these; -INFINITY, INFINITY: any */
    bool overwrite;
} PerplexityJob;

/* Perplexity: exp of the mean loss over a document's tokens after an end-of-text, as many as the model's context holds:
 * a long document is known by its beginning. Each line gets it as "lm_perplexity"; a document without a token has null
 * there, and does not stay. Documents of a chunk (stage.h) are scored in batches of like lengths. counts: documents that
 * stay, that go; 0 if the job was complete already. */
bool perplexity_run(const PerplexityJob *job, uint64_t counts[2], Err *e);
#endif
