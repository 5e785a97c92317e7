/* sample.h - floor 4: from logits to text. Samplers, and decoding of many sequences over the KV cache. */
#ifndef GPT_SAMPLE_H
#define GPT_SAMPLE_H

#include "gpt.h"
#include "tokenizer.h"

/* What a dialogue keeps between runs: the keys and values of its first `fed` tokens, so that a run whose
 * prompt begins with them prefills only the rest. Zeroed at first. After a run `ids` is all of it. */
typedef struct SampleMemory {
    KvCache kv;
    Ids ids;
    size_t fed;
} SampleMemory;
void sample_memory_free(SampleMemory *k);

typedef struct SampleParams {
    double temperature;        /* 0: greedy */
    int top_k;                 /* 0: all */
    double top_p, min_p;       /* 1 and 0: off */
    double repetition_penalty; /* 1: off; over prompt and output (Keskar et al. 2019) */
    uint64_t seed;
    int max_tokens;          /* 0: to the end of the context */
    const char *const *stop; /* stop strings, not empty; none of their bytes are printed */
    int n_stop;
    bool use_cache; /* false: every token from a pass over its whole sequence; for tests */
    bool ignore_eot;
    SampleMemory *memory; /* of one sequence (n_samples 1); NULL: nothing is kept */
} SampleParams;
void sample_defaults(SampleParams *p);
/* Ranges of the above; the message calls them by their flags' names. */
bool sample_check(const SampleParams *p, Err *e);

/* The token drawn for sequence `sequence` at position `pos`: a function of (logits, seed, sequence, pos)
 * only. `seen` are the tokens so far. Order: repetition penalty, temperature, top-k, top-p, min-p; each works
 * on what the one before it left, and of equal logits the lowest ids stay. logits is scratch. -1 if no logit
 * is a finite number. */
int32_t sample_token(float *logits, int64_t V, const SampleParams *p, uint64_t sequence, uint64_t pos,
                     const int32_t *seen, size_t n_seen);

/* The draw before the draw: what temperature, top-k, top-p and min-p leave, ids rising, with their
 * probabilities over the largest in logits[0..], ids in id [V]. Returns how many. temperature > 0. */
int64_t sample_candidates(float *logits, int32_t *id, int64_t V, const SampleParams *p);

/* Called with each piece of valid UTF-8 as sequence i grows; `last` once at its end (n may be 0 then). */
typedef void (*SampleSink)(void *ctx, int i, const char *text, size_t n, bool last);

/* Bytes in, whole characters out. Bytes that could begin a stop string or an unfinished character wait; bytes
 * that cannot be UTF-8 become U+FFFD, one for each longest piece of a character. */
typedef struct SampleText {
    const char *const *stop;
    int n_stop;
    SampleSink sink;
    void *ctx;
    int i;
    Str held;
} SampleText;
bool sample_text_put(SampleText *s, const char *bytes, size_t n); /* true: a stop string is complete */
void sample_text_end(SampleText *s);                              /* what still waits, then `last`; frees */

typedef struct SampleStats {
    int64_t prompt_tokens, new_tokens; /* prefilled; drawn, of all samples */
    double prefill_seconds, decode_seconds;
} SampleStats;
/* n_samples continuations of one prompt (ids, at least one; a prompt that leaves no room in n_positions is an
 * error), decoded as one batch; the prompt is prefilled once. A sample ends at the end-of-text token, a stop
 * string, max_tokens, or a full context. Sample i is the same however many are decoded with it. */
bool sample_run(Gpt *m, const Tokenizer *t, const int32_t *prompt, size_t n_prompt, int n_samples,
                const SampleParams *p, SampleSink sink, void *ctx, SampleStats *stats, Err *e);

/* A dialogue is a list of turns: a line of the user's and the model's answer. When a new line and an answer
 * do not fit into the context beside the old turns, the oldest are dropped, whole: learned positions cannot
 * be shifted, so what is left is prefilled again. */
typedef struct Dialogue {
    Ids ids;
    size_t *turn; /* [n]: the first token of each */
    int n;
    SampleMemory memory;
} Dialogue;
/* Begin a turn with n tokens, leaving at most `limit` in all; false, and no change, if n alone is more. */
bool dialogue_add(Dialogue *d, const int32_t *ids, size_t n, size_t limit);
/* One turn: add the line, sample the answer. A line that is too long is EXIT_USAGE, and not added. */
bool dialogue_turn(Dialogue *d, Gpt *m, const Tokenizer *t, const char *line, const SampleParams *p,
                   SampleSink sink, void *ctx, SampleStats *stats, Err *e);
void dialogue_free(Dialogue *d);

#endif
