/* perplexity.h - floor 6: documents by how well a GPT expects them. */
#ifndef GPT_PERPLEXITY_H
#define GPT_PERPLEXITY_H

#include "gpt.h"
#include "tokenizer.h"
#include "words.h"

/* A GPT that texts are scored by. Its tokenizer must have an end-of-text, and no token that the model lacks. */
typedef struct PerplexityModel {
    const char *name;      /* its folder */
    const char *precision; /* how it was made to work: part of what results depend on */
    Gpt *gpt;
    const Tokenizer *tokenizer;
} PerplexityModel;
bool perplexity_check(const PerplexityModel *m, Err *e);

/* exp of the mean loss over a text's tokens after an end-of-text, as many as the model's context holds: a long text is
 * known by its beginning. NAN without a token. Texts of like lengths are scored as one batch; what a text gets does not
 * depend on the others. n_tokens, if not NULL: the tokens scored, added up. */
void perplexity_texts(const PerplexityModel *m, const Span *text, int n, double *perplexity,
                      uint64_t *n_tokens);

typedef struct PerplexityJob {
    const char *const *files;
    int n_files;
    const char *out;       /* folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json */
    const char *key;       /* the field that holds the text; NULL: "text" */
    PerplexityModel model; /* another one makes another job */
    double least, most;    /* a document stays between these; -INFINITY, INFINITY: any */
    bool overwrite;
} PerplexityJob;

/* Each line gets its text's perplexity as "lm_perplexity"; a document without a token has null there, and does not
 * stay. A chunk (stage.h) at a time is scored. counts: documents that stay, that go; 0 if the job was complete
 * already. */
bool perplexity_run(const PerplexityJob *job, uint64_t counts[2], Err *e);
#endif
