/* dataloader.h - floor 2: token shards on disk (llm.c's format), and batches out of them.
 *
 * A shard is 256 little-endian int32: [0] = 20240520, [1] = 1, [2] = number of tokens; then the tokens, uint16
 * each, every document led by the end-of-text token. Ours add, in words that llm.c leaves zero: [3] = bytes per
 * token (0 or 2: uint16; 4: uint32, for vocabularies over 65,536), [4] = 1 if [5] is the crc32 of the token
 * bytes, [6], [7] = number of tokens as a 64-bit value when it does not fit [2].
 *
 * The loader is stateless: sequence k of epoch e is found by a keyed permutation, so a batch is a function of
 * (seed, step), the same for any world size, and there is nothing to save but the step. */
#ifndef GPT_DATALOADER_H
#define GPT_DATALOADER_H

#include "util.h"

typedef struct Shard {
    Map map;
    const uint8_t *tokens; /* [n], little-endian, `width` bytes each */
    uint64_t n;
    int width; /* 2 or 4 */
    char *path;
} Shard;
/* `verify` reads the whole shard once and checks its crc32 (if it has one). */
bool shard_open(Shard *s, const char *path, bool verify, Err *e);
void shard_close(Shard *s);
void shard_read(const Shard *s, uint64_t at, uint64_t n, int32_t *dst); /* CHECKs the range */

/* Text to shards: `files` (.txt: one document a file; .jsonl: one a line, text under `key`; either gzip'd) into
 * DIR/PREFIX_000000.bin, ... of at most `shard_tokens` tokens, and DIR/PREFIX.json with documents, tokens,
 * bytes, the tokenizer's vocabulary size and, when every document carries "nats", their sum: the floor. */
typedef struct ShardJob {
    const char *const *files;
    int n_files;
    const char *key;           /* "text" if NULL */
    const char *tokenizer_dir; /* for the info file */
    const char *out_dir;
    const char *prefix; /* "train", "val" */
    uint64_t shard_tokens;
    double val_fraction; /* every so many-th document goes to PREFIX "val" instead; 0: none */
    int threads;
} ShardJob;
/* Encodes a document: appends its ids; the caller (main.c) passes tokenizer_encode with its tokenizer. */
typedef bool (*EncodeFn)(const void *ctx, const char *text, size_t n, int32_t **ids, size_t *n_ids, Err *e);
bool shard_write(const ShardJob *job, EncodeFn encode, const void *ctx, int32_t eot, int32_t vocab_size,
                 Err *e);

/* What PREFIX.json beside a set of shards says; zeros where there is none. */
typedef struct ShardInfo {
    uint64_t documents, tokens, bytes;
    double nats; /* sum over documents of -log p under the grammar that wrote them; 0: unknown */
} ShardInfo;
bool shard_info(const char *path_or_glob, ShardInfo *info, Err *e);

typedef struct Source {
    const char *path; /* a shard, a folder of shards, or a glob */
    double weight;    /* relative; sources with one weight are mixed by it, sequence by sequence */
} Source;

typedef struct Loader Loader;
/* Sequences are T tokens and their T targets (the tokens one later): sequence j of a shard starts at token
 * j*T. vocab_size bounds every token read (an id beyond it is an error that names shard and position).
 * `shuffle` false reads sequences in file order: sequence q of the stream is q mod (all full sequences). */
Loader *loader_open(const Source *sources, int n_sources, int T, bool shuffle, uint64_t seed,
                    int32_t vocab_size, Err *e);
void loader_close(Loader *l);
uint64_t loader_sequences(const Loader *l); /* full sequences in one epoch of all sources */
uint64_t loader_tokens(const Loader *l);
/* Rows `first` .. `first + n` of the stream of sequences into tokens [n, T] and targets [n, T]; row q belongs to
 * step q / global_batch. A pure function of (sources, seed, q). */
bool loader_rows(const Loader *l, uint64_t first, int n, int32_t *tokens, int32_t *targets, Err *e);
/* Ask the system to have these rows in memory soon. Never blocks. */
void loader_prefetch(const Loader *l, uint64_t first, int n);
#endif
