/* ngram.h - floor 2: how well a text goes together: an n-gram language model with interpolated modified Kneser-Ney
 * smoothing (Chen & Goodman 1998), as KenLM's lmplz estimates it (Heafield et al. 2013).
 *
 * A line that holds a word is a sentence: <s> words </s>. A model is one file, DIR/ngram.bin, mapped into memory:
 * 8 bytes an n-gram in a hash table three quarters full, so 10.7 in all, with log10 of probabilities and of back-off
 * weights in steps of 1/4096 (a perplexity is off by under 0.01 %), and one cache line a look-up. */
#ifndef GPT_NGRAM_H
#define GPT_NGRAM_H

#include "util.h"

enum { NGRAM_LONGEST = 8 };

/* What a model takes for a word: letters and numbers in lower case, without punctuation (word_next of words.h), or
 * all that stands between white space, as it is (token_next), which is what KenLM does. */
typedef enum NgramUnit { NGRAM_WORDS, NGRAM_TOKENS } NgramUnit;

/* ---- asking ---- */

typedef struct Ngram Ngram;
Ngram *ngram_open(const char *dir, Err *e); /* reads the file once, for its checksum */
void ngram_close(Ngram *m);

/* What a text comes to; the parts of a text may be added up, if they are cut between lines. */
typedef struct NgramScore {
    double log10;                       /* of the probability of all its words and sentence ends */
    double alone;                       /* log10 of the product of its words' unigram probabilities */
    uint64_t words, sentences, unknown; /* `unknown` of the words are not in the model */
} NgramScore;
void ngram_score(const Ngram *m, const char *text, size_t n, NgramScore *score); /* adds; any thread */
double score_perplexity(const NgramScore *score); /* a word or sentence end; INFINITY if there are none */
/* The same of its words taken alone, without sentence ends: how rare they are. The model's unigrams count by how many
 * different words each follows, as Kneser-Ney has it. */
double score_rarity(const NgramScore *score);
double ngram_perplexity(const Ngram *m, const char *text, size_t n);

typedef struct NgramInfo {
    NgramUnit unit;
    int order;
    uint64_t ngrams[NGRAM_LONGEST];    /* of each length, from 1; the first counts <unk>, <s> and </s> */
    double discount[NGRAM_LONGEST][3]; /* D1, D2, D3+ of each length */
    uint32_t guessed;                  /* bit n - 1: too few n-grams to tell, so 0.5, 1 and 1.5 were taken */
    uint64_t bytes;                    /* of the file */
} NgramInfo;
NgramInfo ngram_info(const Ngram *m);

/* ---- training ---- */

typedef struct NgramJob {
    const char *const *files; /* .txt and .jsonl, plain or .gz */
    int n_files;
    const char *key; /* where a .jsonl line has its text; NULL: "text" */
    const char *out_dir;
    NgramUnit unit;
    int order;   /* 2 .. NGRAM_LONGEST */
    int threads; /* 0: all; the file is the same for any number, and for any memory */
    uint64_t
        memory; /* bytes for sorting; beyond that through temporary files in out_dir. Besides: 32 a word known */
    uint64_t
        prune[NGRAM_LONGEST]; /* n-grams that occur so often or less are left out; [0] is 0; not descending */
} NgramJob;
bool ngram_train(const NgramJob *job, Err *e);
#endif
