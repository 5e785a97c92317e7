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

enum { SHARD_HEADER = 1024, SHARD_MAGIC = 20240520, SHARD_MAGIC_LLAMA3 = 20240801 };

typedef struct Shard {
    Map map;
    const uint8_t *tokens; /* [n], little-endian, `width` bytes each */
    uint64_t n;
    int width;    /* 2 or 4 */
    bool has_crc; /* ours have, llm.c's do not */
    uint32_t crc;
    char *path;
} Shard;
/* `verify` reads the whole shard once and checks its crc32 (if it has one). Also opens llm.c's Llama 3 shards
 * (magic 20240801, version 7), whose tokens are uint32. */
bool shard_open(Shard *s, const char *path, bool verify, Err *e);
void shard_close(Shard *s);
void shard_read(const Shard *s, uint64_t at, uint64_t n, int32_t *dst); /* CHECKs the range */

/* The shards that a path means, sorted: a shard, a glob, or a folder (every .bin in it). Errors: none; a folder
 * with validation shards ("val" in the name) beside others; a set that is being written or was left half-written.
 * names_free(). */
bool shard_list(const char *path, char ***names, int *n, Err *e);
char *shard_set(const char *path); /* malloc'd DIR/PREFIX of DIR/PREFIX_000000.bin or DIR/PREFIX.bin */

/* What PREFIX.json says of a set of shards. Zeros where there is none, or where the path means a part of a set. */
typedef struct ShardInfo {
    uint64_t documents, tokens, bytes;
    int32_t vocab_size; /* of the tokenizer that made them */
    double nats;        /* sum over documents of -log p under the grammar that wrote them; 0: unknown */
} ShardInfo;
bool shard_info(const char *path, ShardInfo *info, Err *e);

/* ---- shard.c: text to shards, and a look inside ----------------------------------------------------------
 * `files` (see docs.h) become DIR/PREFIX_000000.bin, ... of `shard_tokens` tokens each, the last one of what is
 * left, and DIR/PREFIX.json with documents, tokens, bytes, the vocabulary size and, when every document carries
 * "nats", their sum: the floor. PREFIX.json comes last; until then PREFIX.json.tmp marks the set as unfinished,
 * and shard_list() refuses it. The shards do not depend on the number of threads.
 *
 * val_fraction: of n documents, round(n * val_fraction), evenly spread, go to "val"; of a single .txt file its end
 * does, from the first line that starts after that point. */
typedef struct ShardJob {
    const char *const *files;
    int n_files;
    const char *key;           /* "text" if NULL */
    const char *tokenizer_dir; /* for the info file */
    const char *out_dir;
    const char *prefix; /* "train" if NULL */
    uint64_t shard_tokens;
    double val_fraction; /* this share of the text goes to the set "val" instead; 0: none */
    int threads;         /* 0: all */
    bool overwrite;      /* replace sets that are there already; else that is an error */
} ShardJob;
/* Encodes a text: *ids malloc'd, or NULL if there are none. Called from several threads at once; for a text cut
 * where docs_next() cuts, the ids of the pieces must be those of the whole. */
typedef bool (*EncodeFn)(const void *ctx, const char *text, size_t n, int32_t **ids, size_t *n_ids, Err *e);
bool shard_write(const ShardJob *job, EncodeFn encode, const void *ctx, int32_t eot, int32_t vocab_size,
                 Err *e);

/* Appends a description of the shards to *out: a line a shard, the totals, and the beginnings of the first few
 * documents, as text if `decode` is given. A document starts at the token that the first shard starts with.
 * `verify` reads every token: checksums, and ids against vocab_size (0: unknown). */
typedef bool (*DecodeFn)(const void *ctx, const int32_t *ids, size_t n, Str *out, Err *e);
bool shard_inspect(const char *path, bool verify, int documents, int32_t vocab_size, DecodeFn decode,
                   const void *ctx, Str *out, Err *e);

/* ---- batches --------------------------------------------------------------------------------------------- */

typedef struct Source {
    const char *path; /* a shard, a folder of shards, or a glob */
    double weight;    /* > 0, relative to the others: its share of the rows */
} Source;

typedef struct Loader Loader;
/* Sequences are T tokens and their T targets (the tokens one later): sequence j of a shard starts at token
 * j*T, and none crosses from one shard into the next. vocab_size bounds every token read (an id beyond it is an
 * error that names shard and position). Shuffled, row q is dealt to a source by weight, and each source goes
 * through its own epochs: each of its sequences once, in an order keyed by (seed, source, epoch). After q rows a
 * source has had q times its share of them, to within 1/2 for two sources, 1 for three, 1.68 for any number.
 * `shuffle` false reads the sequences of all sources in file order, without weights: row q is sequence q mod (all
 * full sequences). Shards of up to 256 MiB in all have their checksums verified here. An error: sources that were made with
 * vocabularies of different sizes. */
Loader *loader_open(const Source *sources, int n_sources, int T, bool shuffle, uint64_t seed,
                    int32_t vocab_size, Err *e);
void loader_close(Loader *l);
uint64_t loader_sequences(const Loader *l); /* full sequences in one epoch of all sources */
uint64_t loader_sequences_of(const Loader *l, int source);
uint64_t loader_tokens(const Loader *l); /* in the shards, with what is left over after full sequences */
/* Another mixture from row `from` on (shuffled only): of so many rows as the quotas' sum, source i gives quota[i], evenly
 * spread, and goes on after the given[i] that it gave before. Only these rows can be read then, until the next deal. */
void loader_deal(Loader *l, uint64_t from, const uint64_t *quota, const uint64_t *given);
/* Rows `first` .. `first + n` of the stream of sequences into tokens [n, T] and targets [n, T]; row q belongs to
 * step q / global_batch. A pure function of (sources, seed, q), and of the last deal if there was one. */
bool loader_rows(const Loader *l, uint64_t first, int n, int32_t *tokens, int32_t *targets, Err *e);
/* Ask the system to have these rows in memory soon. Never blocks. */
void loader_prefetch(const Loader *l, uint64_t first, int n);
#endif
