/* tokenizer_impl.h - floor 2: what the tokenizer's files share. tokenizer.c encodes and decodes,
 * tokenizer_files.c reads and writes folders, tokenizer_train.c learns merges, tokenizer_gpt1.c is GPT-1's
 * text. */
#ifndef GPT_TOKENIZER_IMPL_H
#define GPT_TOKENIZER_IMPL_H

#include "tokenizer.h"

#include <pthread.h>

/* Rank r of the merge list: wherever `left` and `right` stand side by side they may become `id`. */
typedef struct Merge {
    int32_t left, right, id;
} Merge;

enum {
    ID_BITS = 21,   /* a vocabulary has at most 2 Mi ids ... */
    RANK_BITS = 22, /* ... so a pair of ids and its rank fit into 64 bits */
    MAX_IDS = 1 << ID_BITS,
    NO_RANK = (1 << RANK_BITS) - 1
};

typedef struct Cache Cache; /* pieces seen lately and their ids; one for each call in progress */

struct Tokenizer {
    int32_t n, cap;     /* ids */
    Str bytes;          /* of all tokens, end to end */
    size_t *start;      /* [n + 1] where each begins in `bytes` */
    int32_t *find;      /* [find_size] hash table from a token's bytes to its id, -1: empty */
    uint32_t find_size; /* a power of two, at least 2 n */
    Merge *merge;       /* [n_merges], by rank */
    int32_t n_merges;
    int32_t *special; /* [n_special] ids, longest name first */
    int32_t n_special;
    bool leads[256]; /* the first bytes of special tokens */
    int lead;        /* the only one of them, -1 if they are several */
    int32_t eot;     /* -1: none */
    bool gpt1;       /* GPT-1's: tokens are characters, "</w>" behind the last one of a word */
    /* the rest is made by tokenizer_finish */
    int32_t unk;         /* GPT-1: the id of what the vocabulary does not have */
    Str shown;           /* GPT-1: all tokens as text, "</w>" a space */
    size_t *shown_start; /* [n + 1] where each begins in `shown`; NULL: tokens are their bytes */
    int32_t byte_id[256];
    uint32_t byte_rank[256 * 256]; /* of two bytes side by side; NO_RANK: they do not merge */
    uint64_t *pair;                /* [1 << pair_bits] hash table: left id, right id, rank; ~0: empty */
    int pair_bits;
    int32_t *made;                /* [n_merges] the id of each rank */
    bool in_order;                /* what a merge joins was made before it, and what it makes was not */
    uint8_t joins[256 * 256 / 8]; /* bit a * 256 + b: some token holds byte a followed by byte b */
    pthread_mutex_t lock;         /* of `idle` */
    Cache *idle;                  /* caches that no call holds */
};

/* The bytes of an id that is known to be one. */
typedef struct Bytes {
    const char *p;
    size_t n;
} Bytes;
static inline Bytes tokenizer_token(const Tokenizer *t, int32_t id) {
    return (Bytes){t->bytes.p + t->start[id], t->start[id + 1] - t->start[id]};
}

Tokenizer *tokenizer_new(void);
int32_t tokenizer_add(Tokenizer *t, const char *bytes, size_t n);        /* the next id */
int32_t tokenizer_find(const Tokenizer *t, const char *bytes, size_t n); /* -1: no such token */
void tokenizer_add_special(Tokenizer *t, int32_t id);
void tokenizer_add_merge(Tokenizer *t, int32_t left, int32_t right, int32_t id);
/* Check that the parts fit together and make what encode needs; `name` is the file that errors blame. */
bool tokenizer_finish(Tokenizer *t, const char *name, Err *e);

/* The byte b of each id below 256, in GPT-2's order: printable ones first. */
void tokenizer_byte_order(uint8_t order[256]);

/* Length of the first piece of GPT-2's pattern in p[0..n), n > 0, valid UTF-8. */
size_t tokenizer_piece(const uint8_t *p, size_t n);
/* The same, as many pieces as one look at 64 bytes shows: where they end, and how many there are (at least
 * 1). */
enum { MAX_PIECES = 64 };
int tokenizer_pieces(const uint8_t *p, size_t n, size_t end[MAX_PIECES]);
/* Length of the character at p[0..n), n > 0; 0 if it is not UTF-8. */
size_t tokenizer_character(const uint8_t *p, size_t n);
/* Length of the longest prefix that is valid UTF-8. */
size_t tokenizer_valid_prefix(const uint8_t *p, size_t n);

/* Merge n ids in place; p, if not NULL, are the bytes they stand for. Returns how many are left. */
size_t tokenizer_merge(const Tokenizer *t, const uint8_t *p, size_t n, int32_t *id);
void ids_reserve(Ids *ids, size_t more);

/* tokenizer_gpt1.c */
void tokenizer_gpt1_encode(const Tokenizer *t, const uint8_t *p, size_t n, Ids *out);
bool tokenizer_gpt1_finish(Tokenizer *t, const char *name, Err *e);
bool tokenizer_gpt1_ends_word(const Tokenizer *t, int32_t id); /* is it the last part of a word? */

#endif
