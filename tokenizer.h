/* tokenizer.h - floor 2: byte-level BPE. GPT-2's pattern and byte alphabet exactly; GPT-1's lowercased BPE
 * for reading its checkpoints. Ids equal tiktoken's on any bytes, valid UTF-8 or not. Linear time on any
 * input. */
#ifndef GPT_TOKENIZER_H
#define GPT_TOKENIZER_H

#include "util.h"

typedef struct Tokenizer Tokenizer;

/* What encode does with the text of a special token ("<|endoftext|>") inside its input. */
typedef enum { SPECIAL_SPLIT, SPECIAL_REFUSE, SPECIAL_TEXT } SpecialMode;

typedef struct Ids {
    int32_t *id;
    size_t n, cap;
} Ids;
void ids_free(Ids *ids);

/* Open a folder (tokenizer.json, or vocab.json + merges.txt, or encoder.json + vocab.bpe) or a tokenizer.json
 * file. Errors: missing or malformed files, ids that are not 0..n-1, merges of unknown tokens. */
Tokenizer *tokenizer_open(const char *path, Err *e);
/* Write vocab.json, merges.txt, tokenizer.json and what transformers wants beside them into a folder that
 * exists. */
bool tokenizer_save(const Tokenizer *t, const char *dir, Err *e);
/* How tokenizer.json spells a merge: "a b", which every version of Hugging Face's tokenizers reads and
 * tokenizer_save writes, or ["a", "b"], as versions since 0.20 write it. */
typedef enum { MERGES_STRINGS, MERGES_PAIRS } MergeSpelling;
bool tokenizer_save_as(const Tokenizer *t, const char *dir, MergeSpelling spelling, Err *e);
void tokenizer_free(Tokenizer *t);

int32_t tokenizer_size(const Tokenizer *t); /* number of ids, special tokens included */
int32_t tokenizer_eot(const Tokenizer *t);  /* the end-of-text id, -1 if there is none */
/* The bytes of one id (NULL if out of range); a special token gives its name. Not NUL-terminated. */
const char *tokenizer_bytes(const Tokenizer *t, int32_t id, size_t *n);

/* Append the ids of n bytes to *out. Thread-safe. Fails only with SPECIAL_REFUSE. Bytes that are not UTF-8
 * are taken as tiktoken takes them: everything from the piece that they follow on is merged as one piece.
 * GPT-1 drops them. */
bool tokenizer_encode(const Tokenizer *t, const char *text, size_t n, SpecialMode mode, Ids *out, Err *e);
/* Append the bytes of the ids to *out; an id out of range is an error. Of a GPT-1 tokenizer the words,
 * with one space between. */
bool tokenizer_decode(const Tokenizer *t, const int32_t *ids, size_t n, Str *out, Err *e);

/* Learn merges from files (.txt, .jsonl with `key`, either gzip'd). `vocab_size` counts the 256 bytes and
 * the end-of-text token; it may come out smaller, when the text has no pairs left. Merges are those of
 * Hugging Face's BpeTrainer, whatever the number of threads (<= 0: all). */
Tokenizer *tokenizer_train(const char *const *files, int n_files, const char *key, int32_t vocab_size,
                           int threads, Err *e);
#endif
