/* sample.h - floor 4: from logits to text. Samplers, and decoding of many sequences at once over the KV cache. */
#ifndef GPT_SAMPLE_H
#define GPT_SAMPLE_H

#include "gpt.h"
#include "tokenizer.h"

typedef struct SampleParams {
    double temperature;        /* 0: greedy */
    int top_k;                 /* 0: all */
    double top_p, min_p;       /* 1 and 0: off */
    double repetition_penalty; /* 1: off; over prompt and output (Keskar et al. 2019) */
    uint64_t seed;
    int max_tokens;
    const char *const *stop; /* stop strings; none of their bytes are printed */
    int n_stop;
    bool use_cache; /* false: every token from a full forward pass; for tests */
    bool ignore_eot;
} SampleParams;
void sample_defaults(SampleParams *p);

/* The token drawn for sequence `sequence` at position `pos`: a function of (logits, seed, sequence, pos) only. `seen`
 * are the tokens so far. Order: repetition penalty, temperature, top-k, top-p, min-p. logits is scratch. */
int32_t sample_token(float *logits, int64_t V, const SampleParams *p, uint64_t sequence, uint64_t pos,
                     const int32_t *seen, size_t n_seen);

/* Called with each piece of valid UTF-8 as sequence i grows; `last` once at its end. */
typedef void (*SampleSink)(void *ctx, int i, const char *text, size_t n, bool last);
typedef struct SampleStats {
    int64_t prompt_tokens, new_tokens;
    double prefill_seconds, decode_seconds;
} SampleStats;
/* n_samples continuations of one prompt (ids, at least one; a prompt that leaves no room in n_positions is an error),
 * decoded as one batch; the prompt is prefilled once. */
bool sample_run(Gpt *m, const Tokenizer *t, const int32_t *prompt, size_t n_prompt, int n_samples,
                const SampleParams *p, SampleSink sink, void *ctx, SampleStats *stats, Err *e);
#endif
