/* main.c - floor 7: the command table. The only place that prints an error and exits. */
#include "anonymise.h"
#include "decontam.h"
#include "bench.h"
#include "checkpoint.h"
#include "classifier.h"
#include "config.h"
#include "curate.h"
#include "dataloader.h"
#include "dedup.h"
#include "demo.h"
#include "docs.h"
#include "eval.h"
#include "perplexity.h"
#include "plan.h"
#include "ngram.h"
#include "sample.h"
#include "team.h"
#include "tokenizer.h"
#include "train.h"
#include "util.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the CPU ---------------------------------------------------------------------------------------------
 * A binary that was built for a newer CPU says so instead of dying of an illegal instruction. This runs before
 * main, and is itself compiled for any CPU. */

#ifdef __x86_64__
#define REQUIRE(feature) \
    if (!__builtin_cpu_supports(feature)) missing = feature
__attribute__((constructor, target("no-avx"))) static void check_cpu(void) {
    const char *missing = NULL;
    __builtin_cpu_init();
#ifdef __AVX512BF16__
    REQUIRE("avx512bf16");
#endif
#ifdef __AVX512VBMI__
    REQUIRE("avx512vbmi");
#endif
#ifdef __AVX512BW__
    REQUIRE("avx512bw");
#endif
#ifdef __AVX512F__
    REQUIRE("avx512f");
#endif
#ifdef __BMI2__
    REQUIRE("bmi2");
#endif
#ifdef __FMA__
    REQUIRE("fma");
#endif
#ifdef __AVX2__
    REQUIRE("avx2");
#endif
    if (!missing) return;
    fprintf(stderr, "gpt: built for a CPU with %s, which this one lacks; build it here: make clean && make\n",
            missing);
    _exit(EXIT_FAULT);
}
#endif

/* ---- flags -----------------------------------------------------------------------------------------------
 * A command names its flags in a table; parsing, --help and the "did you mean" come from it. */

typedef struct Flag {
    const char *name; /* "--out" */
    const char *arg;  /* "DIR"; NULL for a switch */
    const char *help;
    int many; /* true: takes all words up to the next flag, and may be repeated; PLAIN: need not be named */
} Flag;
enum { PLAIN = 2 };

typedef struct Command Command;
typedef struct Args {
    const Command *cmd;
    int n;
    struct {
        const Flag *flag;
        const char *value;
    } given[1 << 16];
} Args;

/* What the ranks of `mpirun gpt COMMAND` do: */
typedef enum Ranks {
    RANKS_WAIT,  /* rank 0 does it, the others wait */
    RANKS_SHARE, /* each its own files (team.h); the result is the same for any number */
    RANKS_GRID,  /* the command lays them out itself */
} Ranks;

struct Command {
    const char *name; /* one to three words: "data shard" */
    const char *help; /* one line */
    const Flag *flags;
    bool (*run)(const Args *a, Err *e);
    Ranks ranks;
};

/* The last value given for a flag, or `otherwise`. */
static const char *arg(const Args *a, const char *name, const char *otherwise) {
    for (int i = a->n - 1; i >= 0; i--)
        if (!strcmp(a->given[i].flag->name, name)) return a->given[i].value;
    return otherwise;
}

/* A number of things: digits, then perhaps K, M or G for thousands, millions, billions. */
static bool arg_count(const Args *a, const char *name, uint64_t otherwise, uint64_t *count, Err *e) {
    const char *text = arg(a, name, NULL);
    char *end;
    *count = otherwise;
    if (!text) return true;
    errno = 0;
    *count = strtoull(text, &end, 10);
    uint64_t unit = !*end || end[1] ? !*end
                    : *end == 'K'   ? 1000
                    : *end == 'M'   ? 1000000
                    : *end == 'G'   ? 1000000000
                                    : 0;
    if (*text >= '0' && *text <= '9' && !errno && unit && !__builtin_mul_overflow(*count, unit, count))
        return true;
    return err_usage(e, "gpt %s: %s takes a number such as 5000 or 20M, not \"%s\"", a->cmd->name, name,
                     text);
}

/* The value of a flag that must be given. */
static const char *arg_needed(const Args *a, const char *name, Err *e) {
    const char *v = arg(a, name, NULL);
    if (!v) err_usage(e, "gpt %s: %s is needed; see gpt %s --help", a->cmd->name, name, a->cmd->name);
    return v;
}

static bool arg_real(const Args *a, const char *name, double otherwise, double *value, Err *e) {
    const char *text = arg(a, name, NULL);
    char *end;
    *value = otherwise;
    if (!text) return true;
    *value = strtod(text, &end);
    if (*text && !*end && isfinite(*value)) return true;
    return err_usage(e, "gpt %s: %s takes a number such as 0.5, not \"%s\"", a->cmd->name, name, text);
}

/* All values of a flag that takes many; malloc'd. */
static const char **arg_many(const Args *a, const char *name, int *n) {
    const char **values = xmalloc((size_t)a->n * sizeof *values);
    *n = 0;
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->given[i].flag->name, name)) values[(*n)++] = a->given[i].value;
    return values;
}

/* Which of the words (NULL at the end) the flag gives; the first one if it is not given. */
static bool arg_word(const Args *a, const char *name, const char *const *words, int *out, Err *e) {
    const char *v = arg(a, name, words[0]);
    for (*out = 0; words[*out]; ++*out)
        if (!strcmp(v, words[*out])) return true;
    Str all = {0};
    for (int i = 0; words[i]; i++) str_printf(&all, "%s%s", i ? ", " : "", words[i]);
    err_usage(e, "gpt %s: %s %s: must be one of %s", a->cmd->name, name, v, all.p);
    str_free(&all);
    return false;
}

/* All bytes of a file, or of stdin when path is NULL, as they are. */
static bool read_input(const char *path, Str *s, Err *e) {
    if (path) return file_read(path, SIZE_MAX / 2, &s->p, &s->n, e);
    char *block = xmalloc(1 << 20);
    ssize_t got;
    while ((got = read(0, block, 1 << 20)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0) str_put(s, block, (size_t)got);
    free(block);
    return got == 0 || err_set(e, "stdin: cannot read: %s", strerror(errno));
}

/* A count that fits an int and lies in lo .. hi. */
static bool arg_int(const Args *a, const char *name, int lo, int hi, int *n, Err *e) {
    uint64_t count;
    if (!arg_count(a, name, (uint64_t)*n, &count, e)) return false;
    if (count < (uint64_t)lo || count > (uint64_t)hi)
        return err_usage(e, "gpt %s: %s takes a number from %d to %d, not %s", a->cmd->name, name, lo, hi,
                         arg(a, name, ""));
    *n = (int)count;
    return true;
}

/* ---- the commands ---------------------------------------------------------------------------------------- */

static bool cmd_version(const Args *a, Err *e) {
    (void)a, (void)e;
    puts("gpt 0.1");
    return true;
}

/* ---- gpt data demo ---- */

static const Flag demo_flags[] = {
    {"--out", "FILE", "write .jsonl, or .jsonl.gz: one {\"text\": ..., \"nats\": -log p} a line", false},
    {"--bytes", "N", "stop after N bytes of text; 1M unless --docs is given", false},
    {"--docs", "N", "stop after N documents", false},
    {"--seed", "N", "another seed, another corpus; 0", false},
    {"--entropy", NULL, "print the exact entropy of the corpus", false},
    {0}};

static bool cmd_data_demo(const Args *a, Err *e) {
    const char *out = arg(a, "--out", NULL);
    uint64_t bytes, docs, seed;
    double nats, length;
    if (!arg_count(a, "--docs", UINT64_MAX, &docs, e) || !arg_count(a, "--seed", 0, &seed, e) ||
        !arg_count(a, "--bytes", docs < UINT64_MAX ? UINT64_MAX : 1000000, &bytes, e))
        return false;
    if (!out && !arg(a, "--entropy", NULL)) return err_usage(e, "gpt data demo: --out FILE is needed");
    if (arg(a, "--entropy", NULL)) {
        demo_entropy(&nats, &length);
        printf("{\"nats_per_document\": %.17g, \"bytes_per_document\": %.17g, \"bits_per_byte\": %.17g}\n",
               nats, length, nats / length / M_LN2);
    }
    return !out || demo_write(out, seed, bytes, docs, e);
}

/* ---- gpt data shard, gpt data inspect ---- */

static const Flag shard_flags[] = {
    {"--input", "FILE", "text: .txt (one document each) or .jsonl (one a line), plain or .gz", true},
    {"--tokenizer", "DIR", "a folder with a tokenizer; <|endoftext|> inside a text is plain text to it",
     false},
    {"--out", "DIR", "folder for train_000000.bin, ..., train.json", false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--val-fraction", "F",
     "share of the documents, or of a single .txt its end, for val_000000.bin, ... (0)", false},
    {"--prefix", "NAME", "what the names of the files begin with (train)", false},
    {"--shard-tokens", "N", "tokens a shard (100M)", false},
    {"--threads", "N", "threads that encode (all); the result is the same for any number", false},
    {"--overwrite", NULL, "replace shards that are there already", false},
    {0}};

static bool encode_text(const void *tokenizer, const char *text, size_t n, int32_t **ids, size_t *n_ids,
                        Err *e) {
    Ids out = {0};
    bool ok = tokenizer_encode(tokenizer, text, n, SPECIAL_TEXT, &out, e);
    *ids = out.id;
    *n_ids = out.n;
    return ok;
}

static bool decode_text(const void *tokenizer, const int32_t *ids, size_t n, Str *out, Err *e) {
    return tokenizer_decode(tokenizer, ids, n, out, e);
}

static void print_set(const char *dir, const char *prefix, Err *e) {
    Str path = {0};
    ShardInfo info;
    str_printf(&path, "%s/%s_*.bin", dir, prefix);
    if (shard_info(path.p, &info, e))
        printf("%s: %llu documents, %llu bytes, %llu tokens\n", path.p, (unsigned long long)info.documents,
               (unsigned long long)info.bytes, (unsigned long long)info.tokens);
    str_free(&path);
}

static bool run_shard(const ShardJob *job, const Tokenizer *t, Err *e) {
    if (tokenizer_eot(t) < 0)
        return err_set(e, "%s: has no <|endoftext|>, which leads every document", job->tokenizer_dir);
    double start = now_seconds();
    if (!shard_write(job, encode_text, t, tokenizer_eot(t), tokenizer_size(t), e)) return false;
    print_set(job->out_dir, job->prefix, e);
    if (job->val_fraction > 0) print_set(job->out_dir, "val", e);
    note("encoded and written in %.2f s", now_seconds() - start);
    return !e->code;
}

static bool cmd_data_shard(const Args *a, Err *e) {
    ShardJob job = {.key = arg(a, "--key", NULL), .prefix = arg(a, "--prefix", "train")};
    uint64_t threads;
    const char **files = arg_many(a, "--input", &job.n_files);
    job.files = files;
    job.overwrite = arg(a, "--overwrite", NULL) != NULL;
    Tokenizer *t = NULL;
    if (arg_needed(a, "--input", e) && (job.tokenizer_dir = arg_needed(a, "--tokenizer", e)) &&
        (job.out_dir = arg_needed(a, "--out", e)) && arg_real(a, "--val-fraction", 0, &job.val_fraction, e) &&
        arg_count(a, "--shard-tokens", 100000000, &job.shard_tokens, e) &&
        arg_count(a, "--threads", 0, &threads, e)) {
        job.threads = (int)(threads < 1024 ? threads : 1024);
        t = tokenizer_open(job.tokenizer_dir, e);
    }
    bool ok = t && run_shard(&job, t, e);
    tokenizer_free(t);
    free(files);
    return ok;
}

static const Flag inspect_flags[] = {
    {"--data", "SHARDS", "a shard, a folder of shards, or a quoted pattern; or a .jsonl or .txt, also .gz",
     PLAIN},
    {"--tokenizer", "DIR", "show shards' documents as text, and check that no id is beyond this vocabulary",
     false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--documents", "N", "how many documents to show the beginnings of (3)", false},
    {"--verify", NULL, "read all of it: checksums, ids, number of documents", false},
    {0}};

static bool cmd_data_inspect(const Args *a, Err *e) {
    const char *data = arg_needed(a, "--data", e), *dir = arg(a, "--tokenizer", NULL);
    uint64_t documents;
    Str out = {0};
    if (!data || !arg_count(a, "--documents", 3, &documents, e)) return false;
    int most = (int)(documents < INT32_MAX ? documents : INT32_MAX);
    bool verify = arg(a, "--verify", NULL), text = docs_known(data);
    if (text && dir) return err_usage(e, "gpt data inspect: --tokenizer is for shards; %s is text", data);
    Tokenizer *t = dir ? tokenizer_open(dir, e) : NULL;
    bool ok = text ? docs_inspect(data, arg(a, "--key", "text"), verify, most, &out, e)
                   : (t || !dir) && shard_inspect(data, verify, most, t ? tokenizer_size(t) : 0,
                                                  t ? decode_text : NULL, t, &out, e);
    if (out.n) fwrite(out.p, 1, out.n, stdout);
    str_free(&out);
    tokenizer_free(t);
    return ok;
}

/* ---- gpt data anonymise ---- */

static const Flag anonymise_flags[] = {
    {"--input", "FILE", "documents: .jsonl (one a line) or .txt (one each), plain or .gz", true},
    {"--out", "DIR", "folder for clean_000000.jsonl.gz, ..., report.json", false},
    {"--text", NULL, "instead of --input and --out: any text from stdin to stdout", false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--kinds", "LIST", "such as email,phone or all (default: all but street addresses and names)", false},
    {"--secret-file", "FILE", "surrogates instead of <EMAIL>: keyed by what the file holds, so consistent",
     false},
    {"--threads", "N", "threads (all); the result is the same for any number", false},
    {"--overwrite", NULL, "replace another job's results", false},
    {0}};

static void note_counts(const PiiCounts *c) {
    Str s = {0};
    for (int k = 0; k < PII_KINDS; k++)
        if (c->n[k]) str_printf(&s, ", %s %llu", pii_name((PiiKind)k), (unsigned long long)c->n[k]);
    note("found: %s", s.n ? s.p + 2 : "nothing");
    str_free(&s);
}

static bool anonymise_files(const Args *a, AnonymiseJob *job, PiiCounts *counts, Err *e) {
    const char **files = arg_many(a, "--input", &job->n_files);
    job->files = files;
    bool ok = arg_needed(a, "--input", e) && (job->out = arg_needed(a, "--out", e)) &&
              anonymise_run(job, counts, e);
    free(files);
    return ok;
}

static bool cmd_data_anonymise(const Args *a, Err *e) {
    AnonymiseJob job = {.key = arg(a, "--key", NULL), .overwrite = arg(a, "--overwrite", NULL) != NULL};
    const char *secret = arg(a, "--secret-file", NULL);
    char *held = NULL;
    size_t n;
    PiiCounts counts = {{0}};
    bool ok = anonymise_kinds(arg(a, "--kinds", "default"), &job.pii.kinds, e) &&
              arg_int(a, "--threads", 0, 1024, &job.threads, e) &&
              (!secret || file_read(secret, 1 << 20, &held, &n, e));
    job.pii.secret = held;
    if (ok && arg(a, "--text", NULL))
        ok = anonymise_stream(0, 1, &job.pii, &counts, e);
    else
        ok = ok && anonymise_files(a, &job, &counts, e);
    if (ok) note_counts(&counts);
    free(held);
    return ok;
}

/* ---- gpt data decontaminate ---- */

static const Flag decontaminate_flags[] = {
    {"--input", "FILE", "documents: .jsonl (one a line) or .txt (one each), plain or .gz", true},
    {"--against", "FILE", "evaluation sets: every string of a .jsonl line, or a .txt", true},
    {"--out", "DIR", "folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json", false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--ngram", "N", "words in a row that must not be shared (13)", false},
    {"--most", "N", "a run of words that more documents hold is a common phrase, and ignored (10)", false},
    {"--cut", NULL, "cut out the run and 200 characters around it instead of dropping the document", false},
    {"--threads", "N", "threads (all); the result is the same for any number", false},
    {"--overwrite", NULL, "replace another job's results", false},
    {0}};

static bool cmd_data_decontaminate(const Args *a, Err *e) {
    DecontamJob job = {.key = arg(a, "--key", NULL),
                       .ngram = 13,
                       .most = 10,
                       .cut = arg(a, "--cut", NULL) != NULL,
                       .overwrite = arg(a, "--overwrite", NULL) != NULL};
    uint64_t counts[3] = {0};
    const char **files = arg_many(a, "--input", &job.n_files),
               **against = arg_many(a, "--against", &job.n_against);
    job.files = files, job.against = against;
    bool ok = arg_needed(a, "--input", e) && arg_needed(a, "--against", e) &&
              (job.out = arg_needed(a, "--out", e)) && arg_int(a, "--ngram", 8, 63, &job.ngram, e) &&
              arg_int(a, "--most", 1, INT_MAX, &job.most, e) &&
              arg_int(a, "--threads", 0, 1024, &job.threads, e) && decontam_run(&job, counts, e);
    if (ok && counts[0] + counts[1] + counts[2])
        note("%llu documents stay, %llu are cut, %llu go", (unsigned long long)counts[0],
             (unsigned long long)counts[1], (unsigned long long)counts[2]);
    free(files), free(against);
    return ok;
}

/* ---- gpt data dedup ---- */

static const Flag dedup_flags[] = {
    {"--input", "FILE", "documents: .jsonl (one a line) or .txt (one each), plain or .gz", true},
    {"--out", "DIR", "folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json", false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--bands", "N", "bands; sharing one makes two documents near-duplicates (14)", false},
    {"--rows", "N", "rows a band: minima that must all agree (8)", false},
    {"--ngram", "N", "words a shingle (5)", false},
    {"--keep", "first|longest|score", "which document of a cluster stays (first)", false},
    {"--score", "NAME", "with --keep score: the number that ranks documents, such as scores.quality", false},
    {"--memory", "BYTES", "memory for sorting; more goes through the disk (500M)", false},
    {"--threads", "N", "threads (all); the result is the same for any number", false},
    {"--overwrite", NULL, "replace another job's results", false},
    {0}};

static bool cmd_data_dedup(const Args *a, Err *e) {
    const char *const *words = (const char *const[]){"first", "longest", "score", NULL};
    DedupJob job = {.key = arg(a, "--key", NULL),
                    .score = arg(a, "--score", NULL),
                    .bands = 14,
                    .rows = 8,
                    .ngram = 5,
                    .overwrite = arg(a, "--overwrite", NULL) != NULL};
    int keep;
    DedupResult r = {0};
    const char **files = arg_many(a, "--input", &job.n_files);
    job.files = files;
    bool ok = arg_needed(a, "--input", e) && (job.out = arg_needed(a, "--out", e)) &&
              arg_int(a, "--bands", 1, 256, &job.bands, e) && arg_int(a, "--rows", 1, 64, &job.rows, e) &&
              arg_int(a, "--ngram", 1, 64, &job.ngram, e) && arg_word(a, "--keep", words, &keep, e) &&
              arg_count(a, "--memory", 500000000, &job.memory, e) &&
              arg_int(a, "--threads", 0, 1024, &job.threads, e);
    job.keep = ok ? (DedupKeep)keep : DEDUP_FIRST;
    if (ok && (job.keep == DEDUP_SCORE) != (job.score != NULL))
        ok = err_usage(e, "gpt data dedup: --keep score and --score NAME need each other");
    ok = ok && dedup_run(&job, &r, e);
    if (r.kept + r.dropped)
        note("%llu documents stay, %llu are near-duplicates; signed in %.2f s, clustered in %.2f s, written "
             "in %.2f s",
             (unsigned long long)r.kept, (unsigned long long)r.dropped, r.sign_s, r.cluster_s, r.write_s);
    free(files);
    return ok;
}

/* ---- gpt data lm ---- */

static const Flag lm_train_flags[] = {
    {"--input", "FILE", "text: .txt or .jsonl, plain or .gz; a line is a sentence", true},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--out", "DIR", "folder for ngram.bin", false},
    {"--order", "N", "words of the longest n-grams, 2 to 8 (5)", false},
    {"--unit", "words|tokens", "words in lower case, or all between white space, as KenLM has it (words)",
     false},
    {"--prune", "N", "for each length: leave out n-grams that occur N times or less, such as 0 0 1", true},
    {"--memory", "BYTES", "for sorting, such as 4G; what is more goes through files in --out (free / 4)",
     false},
    {"--threads", "N", "threads that count (all); the result is the same for any number", false},
    {0}};

/* Thresholds for each length; the last one given counts for all that are longer. */
static bool parse_prune(const Args *a, NgramJob *job, Err *e) {
    int n;
    const char **given = arg_many(a, "--prune", &n);
    if (n > job->order)
        err_usage(e, "gpt data lm train: --prune takes a number for each length, so %d at most", job->order);
    for (int i = 0; i < NGRAM_LONGEST && n && !e->code; i++) {
        char *end;
        const char *text = given[i < n ? i : n - 1];
        job->prune[i] = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end)
            err_usage(e, "gpt data lm train: --prune takes numbers such as 0 0 1, not \"%s\"", text);
    }
    free(given);
    return !e->code;
}

static void print_ngrams(const char *dir, Err *e) {
    Ngram *m = ngram_open(dir, e);
    if (!m) return;
    NgramInfo info = ngram_info(m);
    char size[24];
    printf("%s: %s\n", dir, human_bytes((double)info.bytes, size));
    for (int n = 1; n <= info.order; n++)
        printf("%d-grams: %llu, discounts %.4f %.4f %.4f%s\n", n, (unsigned long long)info.ngrams[n - 1],
               info.discount[n - 1][0], info.discount[n - 1][1], info.discount[n - 1][2],
               info.guessed >> (n - 1) & 1 ? " (taken: too few to tell)" : "");
    ngram_close(m);
}

static bool cmd_lm_train(const Args *a, Err *e) {
    static const char *const units[] = {[NGRAM_WORDS] = "words", [NGRAM_TOKENS] = "tokens", NULL};
    NgramJob job = {.key = arg(a, "--key", NULL), .order = 5};
    int unit;
    const char **files = arg_many(a, "--input", &job.n_files);
    job.files = files;
    bool ok =
        arg_needed(a, "--input", e) && (job.out_dir = arg_needed(a, "--out", e)) &&
        arg_int(a, "--order", 2, NGRAM_LONGEST, &job.order, e) &&
        arg_int(a, "--threads", 0, 1024, &job.threads, e) &&
        arg_count(a, "--memory", memory_available() ? memory_available() / 4 : 1000000000, &job.memory, e) &&
        arg_word(a, "--unit", units, &unit, e) && parse_prune(a, &job, e);
    if (ok) job.unit = (NgramUnit)unit;
    double start = now_seconds();
    ok = ok && ngram_train(&job, e);
    free(files);
    if (!ok) return false;
    print_ngrams(job.out_dir, e);
    note("trained in %.2f s", now_seconds() - start);
    return !e->code;
}

static const Flag lm_score_flags[] = {
    {"--model", "DIR", "a folder that gpt data lm train wrote", false},
    {"--input", "FILE", "text: .txt (one document each) or .jsonl (one a line), plain or .gz", true},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--threads", "N", "threads (all)", false},
    {0}};

typedef void (*ScoreFn)(const void *model, const Doc *doc, Str *line);

/* A line for each document, in their order, with what `score` says of it and where it is. */
static bool score_batch(Doc *doc, int n, const char *key, const void *model, ScoreFn score, Str *out,
                        Err *e) {
    Str *line = xcalloc((size_t)n, sizeof *line);
    Err *failed = xcalloc((size_t)n, sizeof *failed);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++)
        if (doc_text(&doc[i], key, &failed[i])) score(model, &doc[i], &line[i]);
    for (int i = 0; i < n; i++) {
        if (failed[i].code) err_set(e, "%s", failed[i].msg);
        if (!e->code && doc[i].line)
            str_printf(out, "%s\t%s:%llu\n", line[i].p, doc[i].file, (unsigned long long)doc[i].line);
        else if (!e->code)
            str_printf(out, "%s\t%s\n", line[i].p, doc[i].file);
        str_free(&line[i]);
        free(doc[i].text);
    }
    free(failed);
    free(line);
    return !e->code;
}

/* Rank 0 prints as it goes; another rank keeps the lines in `out`. */
static bool score_file(const char *file, const char *key, const void *model, ScoreFn score, Str *out,
                       Err *e) {
    enum { BATCH = 4096, BYTES = 16 << 20 };
    Docs docs;
    if (!docs_open(&docs, &file, 1, e)) return false;
    Doc *doc = xcalloc(BATCH, sizeof *doc);
    bool ok = true;
    docs.whole = true;
    for (int n = 1; ok && n;) {
        ok = docs_batch(&docs, doc, BATCH, BYTES, &n, e);
        ok = score_batch(doc, n, key, model, score, out, e) && ok;
        if (!team_is_root()) continue;
        if (out->n) fwrite(out->p, 1, out->n, stdout);
        out->n = 0;
    }
    docs_close(&docs);
    free(doc);
    return ok;
}

/* Files go round the ranks; rank 0 prints their lines in the order of the files. */
static bool score_shared(const char **files, int n, const char *key, const void *model, ScoreFn score,
                         Err *e) {
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        int owner = i % team_size();
        Str lines = {0};
        if (owner == team_rank()) ok = score_file(files[i], key, model, score, &lines, e);
        if (!ok) comm_fail(e); /* others may wait for this rank */
        if (ok && owner && owner == team_rank()) team_tell_root(&lines);
        if (owner && team_is_root()) {
            team_hear(owner, &lines);
            fwrite(lines.p, 1, lines.n, stdout);
        }
        str_free(&lines);
    }
    return ok;
}

static bool score_files(const Args *a, const void *model, ScoreFn score, Err *e) {
    int n_files, threads = 0;
    const char **files = arg_many(a, "--input", &n_files);
    Docs docs;
    bool ok = arg_needed(a, "--input", e) && arg_int(a, "--threads", 0, 1024, &threads, e) &&
              docs_open(&docs, files, n_files, e);
    if (ok) docs_close(&docs); /* all of them can be read */
    if (ok && threads) omp_set_num_threads(threads);
    ok = team_agree(ok, e) && score_shared(files, n_files, arg(a, "--key", "text"), model, score, e);
    free(files);
    return ok;
}

static void lm_line(const void *model, const Doc *doc, Str *line) {
    NgramScore s = {0};
    ngram_score(model, doc->text, doc->n, &s);
    str_printf(line, "%.2f\t%llu\t%llu", score_perplexity(&s), (unsigned long long)s.words,
               (unsigned long long)s.unknown);
}

static bool cmd_lm_score(const Args *a, Err *e) {
    const char *dir = arg_needed(a, "--model", e);
    Ngram *m = dir ? ngram_open(dir, e) : NULL;
    bool ok = m && score_files(a, m, lm_line, e);
    ngram_close(m);
    return ok;
}

/* ---- gpt data classifier ---- */

static const Flag classifier_train_flags[] = {
    {"--positive", "FILE", "documents to find: .txt or .jsonl, plain or .gz", true},
    {"--negative", "FILE", "others", true},
    {"--label", "NAME=FILE", "instead, or besides: documents of a topic, more files after the first", true},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--out", "DIR", "folder for classifier.bin", false},
    {"--ngrams", "N", "words of the longest n-grams, 1 to 5 (2)", false},
    {"--chars", "N", "characters of the longest n-grams within words, 0 to 5: for languages (0)", false},
    {"--buckets", "N", "weights a label; n-grams share them by their hashes (4194304)", false},
    {"--epochs", "N", "times over the documents (5)", false},
    {"--rate", "F", "AdaGrad's learning rate (0.5)", false},
    {"--held-out", "F", "share held out, half of it to calibrate, half to report on (0.1)", false},
    {"--seed", "N", "of the order of documents (0)", false},
    {"--threads", "N", "threads (all); the result is the same for any number", false},
    {0}};

/* All files of --positive and --negative as a set each; of --label, one a word, which may lead with its NAME=. */
static ClassifierSet *classifier_sets(const Args *a, ClassifierJob *job, const char **files, Str *names,
                                      Err *e) {
    ClassifierSet *sets = xcalloc((size_t)a->n + 1, sizeof *sets);
    size_t *name_at = xmalloc((size_t)(a->n + 1) * sizeof *name_at);
    bool labelled = false;
    for (int i = 0; i < a->n; i++) {
        const char *flag = a->given[i].flag->name, *value = a->given[i].value, *equals = strchr(value, '=');
        int n = job->n_sets;
        if (!strcmp(flag, "--label") && (equals || labelled)) {
            name_at[n] = equals ? names->n : name_at[n - 1];
            if (equals) str_put(names, value, (size_t)(equals - value)), str_put(names, "", 1);
            value = equals ? equals + 1 : value;
            labelled = true;
        } else if (!strcmp(flag, "--positive") || !strcmp(flag, "--negative")) {
            name_at[n] = flag[2] == 'p' ? names->n : SIZE_MAX;
            if (flag[2] == 'p') str_put(names, "positive", sizeof "positive");
            labelled = false;
        } else {
            if (!strcmp(flag, "--label"))
                err_usage(e, "gpt data classifier train: --label takes NAME=FILE, not %s", value);
            continue;
        }
        files[n] = value;
        sets[job->n_sets++] = (ClassifierSet){.files = &files[n], .n_files = 1};
    }
    for (int i = 0; i < job->n_sets; i++)
        sets[i].label = name_at[i] == SIZE_MAX ? NULL : names->p + name_at[i];
    free(name_at);
    return sets;
}

static void print_report(const ClassifierReport *r) {
    printf("%llu documents to learn from, %llu to calibrate, %llu to test; %llu words and n-grams\n",
           (unsigned long long)r->trained, (unsigned long long)r->calibrated, (unsigned long long)r->tested,
           (unsigned long long)r->features);
    if (!r->tested) return;
    printf("accuracy %.4f\n", r->accuracy);
    for (int k = 0; k < r->labels; k++)
        printf("%s: %llu of them, AUC %.4f, calibration error %.4f (before calibration %.4f)\n",
               r->of[k].label, (unsigned long long)r->of[k].positives, r->of[k].auc, r->of[k].ece,
               r->of[k].raw_ece);
    for (int k = 0; k < r->labels; k++)
        for (int i = 0; i < CLASSIFIER_BINS; i++)
            if (r->of[k].bin[i].n)
                printf("%s: scores %.1f to %.1f: %llu, mean %.4f, share %.4f\n", r->of[k].label, i / 10.0,
                       (i + 1) / 10.0, (unsigned long long)r->of[k].bin[i].n, r->of[k].bin[i].score,
                       r->of[k].bin[i].share);
}

static bool cmd_classifier_train(const Args *a, Err *e) {
    ClassifierJob job = classifier_defaults();
    static ClassifierReport report;
    const char **files = xmalloc((size_t)(a->n + 1) * sizeof *files);
    Str names = {0};
    ClassifierSet *sets = classifier_sets(a, &job, files, &names, e);
    job.sets = sets;
    job.key = arg(a, "--key", NULL);
    double start = now_seconds();
    bool ok = !e->code && (job.out_dir = arg_needed(a, "--out", e)) &&
              arg_int(a, "--ngrams", 1, 5, &job.ngrams, e) && arg_int(a, "--chars", 0, 5, &job.chars, e) &&
              arg_count(a, "--buckets", job.buckets, &job.buckets, e) &&
              arg_int(a, "--epochs", 1, 1000, &job.epochs, e) &&
              arg_real(a, "--rate", job.rate, &job.rate, e) &&
              arg_real(a, "--held-out", job.held_out, &job.held_out, e) &&
              arg_count(a, "--seed", 0, &job.seed, e) && arg_int(a, "--threads", 0, 1024, &job.threads, e) &&
              classifier_train(&job, &report, e);
    if (ok) print_report(&report);
    if (ok) note("trained in %.2f s", now_seconds() - start);
    str_free(&names);
    free(sets);
    free(files);
    return ok;
}

static const Flag classifier_score_flags[] = {
    {"--model", "DIR", "a folder that gpt data classifier train wrote", false},
    {"--input", "FILE", "text: .txt (one document each) or .jsonl (one a line), plain or .gz", true},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--threads", "N", "threads (all)", false},
    {0}};

static void classifier_line(const void *model, const Doc *doc, Str *line) {
    double scores[CLASSIFIER_LABELS];
    classifier_scores(model, doc->text, doc->n, scores);
    for (int k = 0; k < classifier_labels(model); k++) str_printf(line, "%s%.6f", k ? "\t" : "", scores[k]);
}

static bool cmd_classifier_score(const Args *a, Err *e) {
    const char *dir = arg_needed(a, "--model", e);
    Classifier *c = dir ? classifier_open(dir, e) : NULL;
    for (int k = 0; team_is_root() && c && classifier_labels(c) > 1 && k < classifier_labels(c); k++)
        printf("%s\t%s", classifier_label(c, k), k + 1 < classifier_labels(c) ? "" : "document\n");
    bool ok = c && score_files(a, c, classifier_line, e);
    classifier_close(c);
    return ok;
}

/* ---- gpt tokenizer ---- */

static const Flag tokenizer_train_flags[] = {
    {"--input", "FILE", "text: .txt (one document each) or .jsonl (one a line), plain or .gz", true},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--vocab-size", "N", "entries, such as 50257 or 32K; the 256 bytes and <|endoftext|> count", false},
    {"--out", "DIR", "folder for vocab.json, merges.txt and tokenizer.json", false},
    {"--merges", "strings|pairs", "how tokenizer.json spells merges: \"a b\" or [\"a\", \"b\"] (strings)",
     false},
    {"--threads", "N", "threads that count (all); the result is the same for any number", false},
    {0}};

static bool cmd_tokenizer_train(const Args *a, Err *e) {
    const char *const *words = (const char *const[]){"strings", "pairs", NULL};
    const char *out = arg_needed(a, "--out", e);
    int n_files, merges;
    uint64_t vocab_size, threads;
    const char **files = arg_many(a, "--input", &n_files);
    Tokenizer *t = NULL;
    if (out && arg_needed(a, "--input", e) && arg_needed(a, "--vocab-size", e) &&
        arg_count(a, "--vocab-size", 0, &vocab_size, e) && arg_count(a, "--threads", 0, &threads, e) &&
        arg_word(a, "--merges", words, &merges, e))
        t = tokenizer_train(files, n_files, arg(a, "--key", NULL),
                            (int32_t)(vocab_size < INT32_MAX ? vocab_size : INT32_MAX),
                            (int)(threads < 1024 ? threads : 1024), e);
    bool ok = t && dir_make(out, e) && tokenizer_save_as(t, out, merges ? MERGES_PAIRS : MERGES_STRINGS, e);
    if (ok && (uint64_t)tokenizer_size(t) < vocab_size)
        note("the text has too few pairs for %llu entries", (unsigned long long)vocab_size);
    if (ok) note("%s: a tokenizer of %d entries", out, tokenizer_size(t));
    tokenizer_free(t);
    free(files);
    return ok;
}

static const Flag tokenizer_encode_flags[] = {
    {"--tokenizer", "DIR", "a folder with a tokenizer, or a tokenizer.json", false},
    {"--input", "FILE", "text, any bytes (stdin)", false},
    {"--special", "split|refuse|text",
     "what <|endoftext|> in the text is: its id, an error, plain text (split)", false},
    {"--count", NULL, "print how many ids there are instead of the ids", false},
    {0}};

/* Ids as text, space between, newline at the end. Each id is written out once, and copied from then on. */
static void print_ids(const Tokenizer *t, const Ids *ids) {
    enum { WIDEST = 7, BLOCK = 1 << 16 }; /* an id has at most 7 digits: a vocabulary, 2^21 entries */
    struct {
        char digits[WIDEST];
        uint8_t n;
    } *word = xcalloc((size_t)tokenizer_size(t), sizeof *word);
    char block[BLOCK + sizeof *word];
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        int32_t id = ids->id[i];
        if (!word[id].n) {
            char text[16] = "";
            word[id].n = (uint8_t)snprintf(text, sizeof text, "%d", id);
            memcpy(word[id].digits, text, WIDEST);
        }
        memcpy(block + n, &word[id], sizeof *word);
        n += word[id].n;
        block[n++] = i + 1 < ids->n ? ' ' : '\n';
        if (n > BLOCK - sizeof *word) fwrite(block, 1, n, stdout), n = 0;
    }
    fwrite(block, 1, n, stdout);
    free(word);
}

static bool cmd_tokenizer_encode(const Args *a, Err *e) {
    const char *const *words = (const char *const[]){"split", "refuse", "text", NULL};
    const char *dir = arg_needed(a, "--tokenizer", e);
    int special;
    Str text = {0};
    Ids ids = {0};
    if (!dir || !arg_word(a, "--special", words, &special, e)) return false;
    Tokenizer *t = tokenizer_open(dir, e);
    bool ok = t && read_input(arg(a, "--input", NULL), &text, e) &&
              tokenizer_encode(t, text.p, text.n, (SpecialMode)special, &ids, e);
    if (ok && arg(a, "--count", NULL))
        printf("%zu\n", ids.n);
    else if (ok)
        print_ids(t, &ids);
    str_free(&text);
    ids_free(&ids);
    tokenizer_free(t);
    return ok;
}

static const Flag tokenizer_decode_flags[] = {
    {"--tokenizer", "DIR", "a folder with a tokenizer, or a tokenizer.json", false},
    {"--input", "FILE", "ids with white space between (stdin)", false},
    {0}};

static bool is_white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Numbers with white space between. */
static bool parse_ids(const Str *text, Ids *ids, Err *e) {
    const char *p = text->p, *end = text->p + text->n;
    size_t cap = 0;
    for (;;) {
        while (p < end && is_white(*p)) p++;
        if (p == end) return true;
        const char *word = p;
        int64_t v = 0;
        while (p < end && *p >= '0' && *p <= '9' && v <= INT32_MAX) v = v * 10 + *p++ - '0';
        if (p == word || v > INT32_MAX || (p < end && !is_white(*p))) {
            while (p < end && !is_white(*p)) p++;
            return err_set(e, "number %zu, \"%.*s\", is not an id", ids->n + 1,
                           (int)(p - word < 32 ? p - word : 32), word);
        }
        if (ids->n == cap) ids->id = xrealloc(ids->id, (cap = cap * 2 + 1024) * sizeof *ids->id);
        ids->id[ids->n++] = (int32_t)v;
    }
}

static bool cmd_tokenizer_decode(const Args *a, Err *e) {
    const char *dir = arg_needed(a, "--tokenizer", e);
    Str in = {0}, out = {0};
    Ids ids = {0};
    Tokenizer *t = dir ? tokenizer_open(dir, e) : NULL;
    bool ok = t && read_input(arg(a, "--input", NULL), &in, e) && parse_ids(&in, &ids, e) &&
              tokenizer_decode(t, ids.id, ids.n, &out, e);
    if (ok && out.n) fwrite(out.p, 1, out.n, stdout);
    str_free(&in);
    str_free(&out);
    ids_free(&ids);
    tokenizer_free(t);
    return ok;
}

/* ---- gpt convert ---- */

static const Flag convert_flags[] = {
    {"--model", "DIR", "a run, a checkpoint, a Hugging Face folder, a .safetensors file, an llm.c .bin",
     false},
    {"--to", "llmc|hf", "llm.c's .bin (fp32), or a Hugging Face folder", false},
    {"--out", "PATH", "what to write: a file for llmc, a folder for hf", false},
    {0}};

static bool cmd_convert(const Args *a, Err *e) {
    const char *model = arg_needed(a, "--model", e), *to = arg_needed(a, "--to", e);
    const char *out = arg_needed(a, "--out", e);
    if (!model || !to || !out || !model_convert(model, to, out, e)) return false;
    note("%s: written", out);
    return true;
}

/* ---- gpt train ---- */

static const Flag no_flags[] = {{0}};
static const Flag train_flags[] = {
    {"--config", "FILE", "what to train, on what, how: gpt help config", false},
    {"--set", "KEY=VALUE", "a key in place of the file's", true},
    {"--resume", NULL, "go on from the newest complete checkpoint", false},
    {"--overwrite", NULL, "start again in a folder that holds a run", false},
    {0}};

/* The file, and what --set puts in place of its keys. */
static bool read_config(const Args *a, const char *file, Config *c, Err *e) {
    config_defaults(c);
    if (!config_read(c, file, e)) return false;
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->given[i].flag->name, "--set") && !config_set(c, a->given[i].value, e)) return false;
    return true;
}

static bool cmd_train(const Args *a, Err *e) {
    static Config c;
    const char *file = arg(a, "--config", NULL);
    TrainOptions o = {.resume = arg(a, "--resume", NULL) != NULL,
                      .overwrite = arg(a, "--overwrite", NULL) != NULL};
    bool ok = team_open(e); /* so that all ranks end by one's error, which is said once */
    if (ok && !file) ok = err_usage(e, "gpt train: --config FILE is needed; see configs/");
    return team_agree(ok && read_config(a, file, &c, e), e) && train_run(&c, &o, e);
}

/* ---- gpt plan ---- */

static const Flag plan_flags[] = {
    {"--config", "FILE", "what to train: gpt help config", false},
    {"--gpus", "N", "how many GPUs, in nodes of eight", false},
    {"--gpu", "NAME", "which: h100, h200, a100, ...", false},
    {"--tokens", "N", "tokens to train on, such as 300G (what the config's steps come to)", false},
    {"--price", "X", "of a GPU for an hour: tells what the run costs", false},
    {"--json", NULL, "one JSON object, numbers in full", false},
    {"--set", "KEY=VALUE", "a key in place of the file's", true},
    {0}};

static bool cmd_plan(const Args *a, Err *e) {
    static Config c;
    PlanAsk ask = {.gpus = 0};
    uint64_t tokens;
    Str out = {0};
    const char *file = arg_needed(a, "--config", e);
    if (!file || !arg_needed(a, "--gpus", e) || !arg_int(a, "--gpus", 1, 1 << 20, &ask.gpus, e) ||
        !arg_count(a, "--tokens", 0, &tokens, e) || !arg_real(a, "--price", 0, &ask.price, e) ||
        !arg_needed(a, "--gpu", e) || !(ask.gpu = gpu_find(arg(a, "--gpu", ""), e)) ||
        !read_config(a, file, &c, e))
        return false;
    ask.tokens = (double)tokens;
    const bool ok = plan_report(&c, &ask, arg(a, "--json", NULL), &out, e);
    if (ok) fputs(out.p, stdout);
    str_free(&out);
    return ok;
}

/* ---- gpt bench ---- */

static const Flag bench_flags[] = {
    {"--device", "auto|cpu|cuda", "what to measure; auto: a GPU if there is one", false},
    {"--precision", "auto|fp32|bf16|tf32|fp8", "of the operands; auto: bf16 where the machine has it", false},
    {"--threads", "N", "CPU threads; all cores if not given", false},
    {0}};

static bool cmd_bench(const Args *a, Err *e) {
    Config c;
    static const char *const names[] = {"device", "precision", "threads"};
    config_defaults(&c); /* its table reads and checks the values */
    for (int i = 0; i < 3; i++) {
        Str set = {0};
        char flag[16];
        snprintf(flag, sizeof flag, "--%s", names[i]);
        str_printf(&set, "train.%s=%s", names[i], arg(a, flag, i < 2 ? "auto" : "0"));
        const bool ok = config_set(&c, set.p, e);
        str_free(&set);
        if (!ok) return false;
    }
    Dtype compute;
    const Ops *ops = ops_choose(c.train.device, e);
    return ops && ops->start((int)c.train.threads, e) && ops_precision(ops, c.train.precision, &compute, e) &&
           bench_run(ops, compute, e);
}

static bool cmd_help_config(const Args *a, Err *e) {
    Str s = {0};
    (void)a, (void)e;
    config_help(&s);
    fputs(s.p, stdout);
    str_free(&s);
    return true;
}

/* ---- models, for sample and eval ---- */

/* clang-format off */
#define MODEL_FLAGS \
    {"--model", "DIR", "a run, a checkpoint, a Hugging Face GPT-2 or openai-gpt folder, an llm.c .bin", false}, \
    {"--tokenizer", "DIR", "the tokenizer (the one in the model's folder)", false}, \
    {"--threads", "N", "threads (every core)", false}, \
    {"--device", "NAME", "auto, cpu or cuda (auto: a GPU if there is one)", false}
/* clang-format on */

typedef struct Model {
    ModelConfig config;
    Gpt *gpt;
    Tokenizer *tokenizer; /* NULL: there is none */
} Model;

static void model_close(Model *m) {
    if (m->gpt) gpt_free(m->gpt);
    if (m->tokenizer) tokenizer_free(m->tokenizer);
}

static bool open_tokenizer(const Args *a, const char *path, Model *m, Err *e) {
    char *own = model_tokenizer(path);
    const char *dir = arg(a, "--tokenizer", own);
    bool ok = !dir || (m->tokenizer = tokenizer_open(dir, e)) != NULL;
    free(own);
    return ok;
}

static bool model_precision(const Args *a, bool decode, const char **precision, Err *e) {
    const char *const *all =
        (const char *const[]){decode ? "auto" : "fp32", "bf16", decode ? "fp32" : "auto", NULL};
    int i;
    if (!arg_word(a, "--precision", all, &i, e)) return false;
    *precision = all[i];
    return true;
}

/* The model and its tokenizer; made to decode, or to score whole contexts, short ones several at once. */
static bool model_at(const Args *a, const char *path, const char *precision, bool decode, Model *m, Err *e) {
    int threads = 0;
    if (!arg_int(a, "--threads", 0, 4096, &threads, e) || !model_config_of(path, &m->config, e)) return false;
    const Ops *ops = ops_choose(arg(a, "--device", "auto"), e);
    if (!ops || !open_tokenizer(a, path, m, e) || !ops->start(threads, e) || !comm_start(e)) return false;
    GptOptions o = {.ops = ops, .B = 1};
    if (!ops_precision(ops, precision, &o.compute, e)) return false;
    o.T = (int)m->config.n_positions;
    if (decode && o.T > 512) o.T = 512; /* a prompt goes in as matrices of so many rows */
    if (!decode && o.T < 4096) o.B = 4096 / o.T;
    m->gpt = gpt_create(&m->config, &o, e);
    if (!m->gpt || !model_load(m->gpt, path, e)) return false;
    gpt_weights_changed(m->gpt, false);
    return true;
}

static bool model_open(const Args *a, bool decode, Model *m, Err *e) {
    const char *path = arg_needed(a, "--model", e), *precision;
    return path && model_precision(a, decode, &precision, e) && model_at(a, path, precision, decode, m, e);
}

/* A model that scores texts by its own tokenizer, unless another is given. */
static bool model_for_scores(const Args *a, const char *path, const char *precision, Model *m,
                             PerplexityModel *p, Err *e) {
    if (!model_at(a, path, precision, false, m, e)) return false;
    if (!m->tokenizer) return err_usage(e, "%s: has no tokenizer; give --tokenizer DIR", path);
    *p = (PerplexityModel){path, precision, m->gpt, m->tokenizer};
    return perplexity_check(p, e);
}

/* ---- gpt sample ---- */

static const Flag sample_flags[] = {
    MODEL_FLAGS,
    {"--prompt", "TEXT", "what to go on from, - to read it from stdin (the end-of-text token)", false},
    {"--prompt-file", "FILE", "the same from a file, byte for byte", false},
    {"--interactive", NULL, "a dialogue: a line in, an answer out; old turns go when the context is full",
     false},
    {"--samples", "N", "so many continuations, decoded as one batch (1)", false},
    {"--max-tokens", "N", "end each after N tokens; 0: at the end of the context (200)", false},
    {"--stop", "TEXT", "end before any of these texts", true},
    {"--temperature", "X", "0: greedy, always the likeliest token (0.8)", false},
    {"--top-k", "N", "only the N likeliest (all)", false},
    {"--top-p", "X", "only the likeliest that together reach probability X (1)", false},
    {"--min-p", "X", "only those at least X times as likely as the likeliest (0)", false},
    {"--repetition-penalty", "X", "over 1: less of what was there before (1)", false},
    {"--seed", "N", "the same seed, the same text, for any number of threads and samples (1)", false},
    {"--precision", "auto|fp32|bf16",
     "of the matrix products; auto: bf16 where the machine is faster at it (auto)", false},
    {"--no-cache", NULL, "compute every token from scratch, to check the cache", false},
    {"--ignore-eot", NULL, "go on after an end-of-text token", false},
    {"--stats", NULL, "tokens and tokens per second, on stderr", false},
    {0}};

/* p->stop is the caller's to free. */
static bool sample_params(const Args *a, SampleParams *p, Err *e) {
    sample_defaults(p);
    p->stop = arg_many(a, "--stop", &p->n_stop);
    p->use_cache = !arg(a, "--no-cache", NULL);
    p->ignore_eot = arg(a, "--ignore-eot", NULL) != NULL;
    return arg_real(a, "--temperature", p->temperature, &p->temperature, e) &&
           arg_int(a, "--top-k", 0, INT_MAX, &p->top_k, e) &&
           arg_real(a, "--top-p", p->top_p, &p->top_p, e) && arg_real(a, "--min-p", p->min_p, &p->min_p, e) &&
           arg_real(a, "--repetition-penalty", p->repetition_penalty, &p->repetition_penalty, e) &&
           arg_count(a, "--seed", p->seed, &p->seed, e) &&
           arg_int(a, "--max-tokens", 0, INT_MAX, &p->max_tokens, e) && sample_check(p, e);
}

/* The prompt's text; text->p NULL if there is none. */
static bool read_prompt(const Args *a, Str *text, Err *e) {
    const char *given = arg(a, "--prompt", NULL), *file = arg(a, "--prompt-file", NULL), *where = "--prompt";
    if (given && file) return err_usage(e, "gpt sample: --prompt or --prompt-file, not both");
    if (given && !strcmp(given, "-")) file = "-";
    if (file) {
        where = strcmp(file, "-") ? file : "stdin";
        if (!read_input(strcmp(file, "-") ? file : NULL, text, e)) return false;
    } else if (given) {
        str_puts(text, given);
    } else {
        return true;
    }
    if (!text->n)
        return err_usage(e, "%s: the prompt is empty; without one, the text starts from nothing", where);
    return utf8_valid(text->p, text->n) || err_usage(e, "%s: the prompt is not valid UTF-8", where);
}

static bool encode_prompt(const Model *m, const Str *text, Ids *ids, Err *e) {
    int32_t eot = tokenizer_eot(m->tokenizer);
    if (text->n) return tokenizer_encode(m->tokenizer, text->p, text->n, SPECIAL_SPLIT, ids, e);
    if (eot < 0) return err_usage(e, "the tokenizer has no end-of-text token to start from; give a --prompt");
    *ids = (Ids){xmalloc(sizeof eot), 1, 1};
    ids->id[0] = eot;
    return true;
}

/* Samples grow side by side and are printed one after the other: one as it comes, later ones held. */
typedef struct Printer {
    int n, turn;
    Str *held;   /* [n] */
    bool *ended; /* [n] */
} Printer;

static void print_heading(const Printer *p) {
    if (p->n > 1 && p->turn < p->n) printf("---- sample %d of %d ----\n", p->turn + 1, p->n);
}

static void print_sample(void *ctx, int i, const char *text, size_t n, bool last) {
    Printer *p = ctx;
    str_put(&p->held[i], text, n);
    p->ended[i] = last;
    while (p->turn < p->n && (i == p->turn || p->ended[p->turn])) {
        Str *s = &p->held[p->turn];
        fwrite(s->p, 1, s->n, stdout);
        s->n = 0;
        if (!p->ended[p->turn]) break;
        putchar('\n');
        p->turn++;
        print_heading(p);
    }
    fflush(stdout);
}

static void print_rate(const char *what, int64_t tokens, double seconds) {
    fprintf(stderr, "gpt: %s: %lld tokens in %.3f s, %.1f tokens/s\n", what, (long long)tokens, seconds,
            seconds > 0 ? (double)tokens / seconds : 0);
}

/* The first token of each sample comes out of the prompt's pass, so decoding had that many less to do. */
static void print_stats(const SampleStats *s, int n_samples) {
    print_rate("prompt", s->prompt_tokens, s->prefill_seconds);
    print_rate("decode", s->new_tokens - n_samples, s->decode_seconds);
}

static bool sample_once(const Args *a, const Model *m, const Ids *prompt, int n, const SampleParams *p,
                        Err *e) {
    SampleStats stats;
    Printer out = {
        .n = n, .held = xcalloc((size_t)n, sizeof(Str)), .ended = xcalloc((size_t)n, sizeof(bool))};
    print_heading(&out);
    bool ok = sample_run(m->gpt, m->tokenizer, prompt->id, prompt->n, n, p, print_sample, &out, &stats, e);
    if (ok && arg(a, "--stats", NULL)) print_stats(&stats, n);
    for (int i = 0; i < n; i++) str_free(&out.held[i]);
    free(out.held), free(out.ended);
    return ok;
}

static void print_answer(void *ctx, int i, const char *text, size_t n, bool last) {
    (void)ctx, (void)i;
    fwrite(text, 1, n, stdout);
    if (last) putchar('\n');
    fflush(stdout);
}

/* A line in, an answer out, until the input ends. A line that does not fit is passed over, with a note. */
static bool sample_chat(const Args *a, const Model *m, const SampleParams *p, Err *e) {
    Dialogue d = {0};
    Text in;
    char *line;
    size_t n;
    bool ok = text_open(&in, "-", e), prompt = isatty(0) == 1;
    while (ok) {
        SampleStats stats;
        if (prompt) fputs("> ", stdout), fflush(stdout);
        ok = text_line(&in, &line, &n, e);
        if (!ok || !line) break;
        if (!utf8_valid(line, n)) {
            note("this line is not valid UTF-8, and was passed over");
        } else if (!dialogue_turn(&d, m->gpt, m->tokenizer, line, p, print_answer, NULL, &stats, e)) {
            if (!(ok = e->code == EXIT_USAGE)) break;
            note("%s", e->msg);
            *e = (Err){0};
        } else if (arg(a, "--stats", NULL)) {
            print_stats(&stats, 1);
        }
    }
    text_close(&in);
    dialogue_free(&d);
    return ok;
}

static bool cmd_sample(const Args *a, Err *e) {
    SampleParams p;
    Model m = {0};
    Ids ids = {0};
    Str text = {0};
    int n = 1;
    bool chat = arg(a, "--interactive", NULL);
    if (chat && (arg(a, "--prompt", NULL) || arg(a, "--prompt-file", NULL) || arg(a, "--samples", NULL)))
        return err_usage(e, "gpt sample: --interactive reads stdin, and goes without --prompt and --samples");
    bool ok = sample_params(a, &p, e) && arg_int(a, "--samples", 1, 4096, &n, e) &&
              read_prompt(a, &text, e) && model_open(a, true, &m, e);
    if (ok && !m.tokenizer)
        ok = err_usage(e, "%s: has no tokenizer files; give --tokenizer DIR", arg(a, "--model", ""));
    if (chat)
        ok = ok && sample_chat(a, &m, &p, e);
    else
        ok = ok && encode_prompt(&m, &text, &ids, e) && sample_once(a, &m, &ids, n, &p, e);
    free((void *)p.stop);
    str_free(&text);
    ids_free(&ids);
    model_close(&m);
    return ok;
}

/* ---- gpt eval ---- */

static const Flag eval_flags[] = {
    MODEL_FLAGS,
    {"--data", "SHARDS",
     "shards, a folder, a glob: windows of T tokens and the T after each, at 0, T, 2T, ...; a last part is "
     "dropped",
     false},
    {"--seq-len", "T", "tokens a window (the model's context)", false},
    {"--max-tokens", "N", "score only so many (all)", false},
    {"--task", "FILE.jsonl", "lines of {\"ctx\", \"endings\", \"label\"}, or of {\"text\"}: its last word",
     false},
    {"--max-items", "N", "only the first N lines of the task (all)", false},
    {"--precision", "fp32|bf16|auto", "of the matrix products (fp32, for exact figures)", false},
    {"--json", NULL, "one JSON object, numbers in full", false},
    {0}};

/* A number in full, null where there is none. */
static void print_json(const char *key, double x) {
    if (isfinite(x))
        printf(", \"%s\": %.17g", key, x);
    else
        printf(", \"%s\": null", key);
}

static void print_figure(const char *name, double x, const char *unit) {
    if (isfinite(x)) printf("%-18s %12.6g  %s\n", name, x, unit);
}

static bool eval_data(const Args *a, const Model *m, Err *e) {
    EvalLoss r;
    int T = (int)m->config.n_positions;
    uint64_t most;
    if (!arg_int(a, "--seq-len", 1, INT_MAX, &T, e) || !arg_count(a, "--max-tokens", 0, &most, e) ||
        !eval_loss(m->gpt, m->tokenizer, arg(a, "--data", NULL), T, most, &r, e))
        return false;
    double above = r.loss / r.floor - 1;
    if (arg(a, "--json", NULL)) {
        printf("{\"loss\": %.17g", r.loss);
        print_json("perplexity", r.perplexity);
        print_json("bits_per_byte", r.bits_per_byte);
        printf(", \"tokens\": %llu", (unsigned long long)r.tokens);
        if (isfinite(r.floor)) print_json("floor", r.floor), print_json("above_floor", above);
        puts("}");
        return true;
    }
    print_figure("loss", r.loss, "nats per token");
    print_figure("floor", r.floor, "nats per token: no model can do better on average");
    print_figure("above the floor", 100 * above, "%");
    print_figure("perplexity", r.perplexity, "");
    print_figure("bits per byte", r.bits_per_byte, "of text");
    printf("%-18s %12llu\n", "tokens", (unsigned long long)r.tokens);
    return true;
}

static bool eval_tasks(const Args *a, const Model *m, Err *e) {
    EvalTask r;
    uint64_t most;
    if (!m->tokenizer)
        return err_usage(e, "%s: has no tokenizer files; give --tokenizer DIR", arg(a, "--model", ""));
    if (!arg_count(a, "--max-items", 0, &most, e) ||
        !eval_task(m->gpt, m->tokenizer, arg(a, "--task", NULL), most, &r, e))
        return false;
    bool choices = !strcmp(r.kind, "multiple_choice");
    if (arg(a, "--json", NULL)) {
        printf("{\"task\": \"%s\", \"items\": %llu", r.kind, (unsigned long long)r.items);
        print_json(choices ? "acc" : "accuracy", choices ? r.acc : r.accuracy);
        print_json(choices ? "acc_norm" : "perplexity", choices ? r.acc_norm : r.perplexity);
        if (choices) print_json("acc_norm_tokens", r.acc_norm_tokens);
        puts("}");
        return true;
    }
    printf("%-18s %12llu  %s\n", "items", (unsigned long long)r.items,
           choices ? "multiple choice" : "last word");
    if (choices) {
        print_figure("acc", 100 * r.acc, "%, by log-probability");
        print_figure("acc_norm", 100 * r.acc_norm, "%, by log-probability a character");
        print_figure("acc_norm_tokens", 100 * r.acc_norm_tokens, "%, by log-probability a token");
    } else {
        print_figure("accuracy", 100 * r.accuracy, "%, all tokens of the word the likeliest");
        print_figure("perplexity", r.perplexity, "a word");
    }
    return true;
}

static bool cmd_eval(const Args *a, Err *e) {
    Model m = {0};
    bool data = arg(a, "--data", NULL), task = arg(a, "--task", NULL);
    if (data == task) return err_usage(e, "gpt eval: either --data SHARDS or --task FILE.jsonl is needed");
    bool ok = model_open(a, false, &m, e) && (data ? eval_data : eval_tasks)(a, &m, e);
    model_close(&m);
    return ok;
}

/* ---- gpt data clean, gpt data explain ---- */

/* clang-format off */
#define LM_FLAGS \
    {"--lm", "DIR", "a GPT that scores what the rules leave: models.lm, max_lm_perplexity, min_lm_perplexity", false}, \
    {"--device", "NAME", "where it runs: auto, cpu or cuda (auto: a GPU if there is one)", false}
/* clang-format on */

static const Flag clean_flags[] = {
    {"--config", "FILE", "rules and their limits (the published ones); gpt help clean lists all keys", false},
    {"--input", "FILE", ".txt .jsonl .html .warc .wet, each also .gz; or folders, with all below them", true},
    {"--out", "DIR", "folder for clean_000000.jsonl.gz, dropped_000000.jsonl.gz, report.json, report.html",
     false},
    {"--set", "KEY=VALUE", "override a key of the config, as in gopher.min_words=20; may be repeated", false},
    {"--threads", "N", "threads (all cores); the result is the same for any number", false},
    LM_FLAGS,
    {0}};

static bool curate_configure(const Args *a, CurateConfig *c, Err *e) {
    const char *path = arg(a, "--config", NULL);
    int n;
    curate_defaults(c);
    if (path && !curate_read(c, path, e)) return false;
    const char **set = arg_many(a, "--set", &n);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = curate_set(c, set[i], e);
    free(set);
    const char *lm = arg(a, "--lm", NULL);
    if (ok && lm && strlen(lm) >= sizeof c->clean.lm) ok = err_usage(e, "--lm: the path is too long");
    if (ok && lm) snprintf(c->clean.lm, sizeof c->clean.lm, "%s", lm);
    return ok;
}

static void curate_score(const void *model, const Span *text, int n, double *perplexity) {
    perplexity_texts(model, text, n, perplexity, NULL);
}

/* The GPT that the config names, if it does; m and p must outlive lm. */
static bool curate_lm(const Args *a, const CurateConfig *c, Model *m, PerplexityModel *p, CurateLm *lm,
                      Err *e) {
    *lm = (CurateLm){0};
    if (!*c->clean.lm) return true;
    if (!model_for_scores(a, c->clean.lm, c->clean.lm_precision, m, p, e)) return false;
    *lm = (CurateLm){curate_score, p};
    return true;
}

static bool cmd_data_clean(const Args *a, Err *e) {
    CurateJob job = {0};
    Model m = {0};
    PerplexityModel by;
    const char **inputs = arg_many(a, "--input", &job.n_inputs);
    job.inputs = inputs;
    bool ok = arg_needed(a, "--input", e) && (job.out = arg_needed(a, "--out", e)) &&
              arg_int(a, "--threads", 0, 1024, &job.threads, e) && curate_configure(a, &job.config, e) &&
              curate_lm(a, &job.config, &m, &by, &job.lm, e) && curate_run(&job, e);
    model_close(&m);
    free(inputs);
    return ok;
}

static const Flag explain_flags[] = {
    {"--config", "FILE", "as for gpt data clean", false},
    {"--set", "KEY=VALUE", "override a key of the config; may be repeated", false},
    {"--input", "FILE", "the file whose documents are explained", PLAIN},
    {"--documents", "N", "how many of them (1)", false},
    LM_FLAGS,
    {0}};

static bool cmd_data_explain(const Args *a, Err *e) {
    CurateConfig c;
    CurateLm lm;
    Model m = {0};
    PerplexityModel by;
    int documents = 1;
    Str out = {0};
    const char *path = arg_needed(a, "--input", e);
    bool ok = path && arg_int(a, "--documents", 1, INT_MAX, &documents, e) && curate_configure(a, &c, e) &&
              curate_lm(a, &c, &m, &by, &lm, e) && curate_explain(&c, &lm, path, documents, &out, e);
    if (out.n) fwrite(out.p, 1, out.n, stdout);
    model_close(&m);
    str_free(&out);
    return ok;
}

static bool cmd_help_clean(const Args *a, Err *e) {
    Str text = {0};
    (void)a, (void)e;
    curate_help(&text);
    fputs(text.p, stdout);
    str_free(&text);
    return true;
}

/* ---- gpt data perplexity ---- */

static const Flag perplexity_flags[] = {
    MODEL_FLAGS,
    {"--precision", "fp32|bf16|auto", "of the matrix products (fp32)", false},
    {"--input", "FILE", "documents: .jsonl (one a line) or .txt (one each), plain or .gz", true},
    {"--out", "DIR", "folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json", false},
    {"--key", "NAME", "where a .jsonl line has its text (text)", false},
    {"--most", "F", "largest perplexity of a document that stays (any)", false},
    {"--least", "F", "smallest perplexity of a document that stays (any)", false},
    {"--overwrite", NULL, "replace another job's results", false},
    {0}};

static bool cmd_data_perplexity(const Args *a, Err *e) {
    PerplexityJob job = {.key = arg(a, "--key", NULL), .overwrite = arg(a, "--overwrite", NULL) != NULL};
    uint64_t counts[2] = {0};
    Model m = {0};
    const char **files = arg_many(a, "--input", &job.n_files), *model, *precision;
    job.files = files;
    bool ok = arg_needed(a, "--input", e) && (model = arg_needed(a, "--model", e)) &&
              (job.out = arg_needed(a, "--out", e)) && arg_real(a, "--most", INFINITY, &job.most, e) &&
              arg_real(a, "--least", 0, &job.least, e) && model_precision(a, false, &precision, e) &&
              model_for_scores(a, model, precision, &m, &job.model, e);
    double start = now_seconds();
    ok = ok && perplexity_run(&job, counts, e);
    if (ok && counts[0] + counts[1])
        note("%llu documents stay, %llu go; %.1f documents a second", (unsigned long long)counts[0],
             (unsigned long long)counts[1], (double)(counts[0] + counts[1]) / (now_seconds() - start));
    model_close(&m);
    free(files);
    return ok;
}

static const Command commands[] = {
    {"train", "pretrain or go on training: the config says which", train_flags, cmd_train, RANKS_GRID},
    {"data clean", "raw text and HTML to clean documents, by published rules", clean_flags, cmd_data_clean,
     RANKS_SHARE},
    {"data explain", "one document through every rule: its values, the limits, what drops it", explain_flags,
     cmd_data_explain, RANKS_WAIT},
    {"data demo", "write the embedded corpus: short stories of exactly known probability", demo_flags,
     cmd_data_demo, RANKS_WAIT},
    {"data shard", "text to token shards", shard_flags, cmd_data_shard, RANKS_WAIT},
    {"data anonymise", "take out what identifies a person", anonymise_flags, cmd_data_anonymise, RANKS_SHARE},
    {"data decontaminate", "take out what evaluation sets hold", decontaminate_flags, cmd_data_decontaminate,
     RANKS_SHARE},
    {"data dedup", "of documents that are nearly the same, keep one", dedup_flags, cmd_data_dedup,
     RANKS_SHARE},
    {"data inspect", "what is in token shards, or in documents", inspect_flags, cmd_data_inspect, RANKS_WAIT},
    {"data lm train", "learn an n-gram language model", lm_train_flags, cmd_lm_train, RANKS_WAIT},
    {"data lm score", "print of each document: perplexity, words, unknown words, where it is", lm_score_flags,
     cmd_lm_score, RANKS_SHARE},
    {"data perplexity", "keep the documents that a GPT finds neither too strange nor too plain",
     perplexity_flags, cmd_data_perplexity, RANKS_SHARE},
    {"data classifier train", "learn what kind of text a document is", classifier_train_flags,
     cmd_classifier_train, RANKS_WAIT},
    {"data classifier score", "print of each document: its score for each label, where it is",
     classifier_score_flags, cmd_classifier_score, RANKS_SHARE},
    {"tokenizer train", "learn a byte-level BPE vocabulary from text", tokenizer_train_flags,
     cmd_tokenizer_train, RANKS_WAIT},
    {"tokenizer encode", "text to ids", tokenizer_encode_flags, cmd_tokenizer_encode, RANKS_WAIT},
    {"tokenizer decode", "ids to text", tokenizer_decode_flags, cmd_tokenizer_decode, RANKS_WAIT},
    {"convert", "a model in another format", convert_flags, cmd_convert, RANKS_WAIT},
    {"sample", "go on from a prompt", sample_flags, cmd_sample, RANKS_WAIT},
    {"eval", "loss and perplexity over shards, or the score of a task", eval_flags, cmd_eval, RANKS_WAIT},
    {"plan", "what a run needs on so many GPUs: memory, time, cost, and the best grid", plan_flags, cmd_plan,
     RANKS_WAIT},
    {"bench", "this machine: products, attention, a step, decoding, as shares of its own peak", bench_flags,
     cmd_bench, RANKS_WAIT},
    {"help clean", "every key of a config of data clean: its default, its meaning, its range", no_flags,
     cmd_help_clean, RANKS_WAIT},
    {"help config", "every key of a config: its default, its meaning, its range", no_flags, cmd_help_config,
     RANKS_WAIT},
    {"version", "what this binary is", no_flags, cmd_version, RANKS_WAIT},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *f) {
    fputs("usage: gpt COMMAND [--flag value ...]     gpt COMMAND --help\n\n", f);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(f, "  %-24s %s\n", commands[i].name, commands[i].help);
    fputs("\nUnder mpirun -np N: train lays its ranks out as its config says; data clean, anonymise, "
          "decontaminate, dedup,\n"
          "perplexity, lm score and classifier score share their input files over them, with the same result "
          "for any N "
          "(all ranks\n"
          "must see the same folders); of any other command rank 0 does everything, and the others wait.\n",
          f);
}

static void help_command(const Command *c) {
    printf("gpt %s: %s\n\n", c->name, c->help);
    for (const Flag *f = c->flags; f->name; f++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s %s%s", f->many == PLAIN ? "[" : "", f->name,
                 f->many == PLAIN ? "]" : "", f->arg ? f->arg : "", f->many == true ? " ..." : "");
        printf("  %-28s %s\n", left, f->help);
    }
}

/* The command that argv names, and how many words its name took: the longest name that fits. */
static const Command *find_command(int argc, char **argv, int *words) {
    const Command *found = NULL;
    Str name = {0};
    for (int w = 1; w < argc && w <= 3; w++) {
        str_printf(&name, "%s%s", w > 1 ? " " : "", argv[w]);
        for (int i = 0; i < N_COMMANDS; i++)
            if (!strcmp(name.p, commands[i].name)) *words = w, found = &commands[i];
    }
    str_free(&name);
    return found;
}

static bool parse(Args *a, int argc, char **argv, Err *e) {
    const Flag *open = NULL; /* a flag that still takes words */
    const Flag *plain = a->cmd->flags;
    while (plain->name && plain->many != PLAIN) plain++;
    if (!plain->name) plain = NULL;
    for (int i = 0; i < argc; i++) {
        const char *w = argv[i], *value = "";
        if (strncmp(w, "--", 2) == 0 && w[2]) {
            const Flag *f = a->cmd->flags;
            while (f->name && strcmp(f->name, w)) f++;
            if (!f->name)
                return err_usage(e, "gpt %s: unknown flag %s; see gpt %s --help", a->cmd->name, w,
                                 a->cmd->name);
            open = f->many == true ? f : NULL;
            if (f->arg && ++i == argc)
                return err_usage(e, "gpt %s: %s needs a value: %s", a->cmd->name, w, f->arg);
            if (f->arg) value = argv[i];
            a->given[a->n].flag = f;
        } else if (open || (plain && !arg(a, plain->name, NULL))) {
            a->given[a->n].flag = open ? open : plain;
            value = w;
        } else {
            return err_usage(e, "gpt %s: do not know what to do with \"%s\"; see gpt %s --help", a->cmd->name,
                             w, a->cmd->name);
        }
        a->given[a->n++].value = value;
        if (a->n == (int)(sizeof a->given / sizeof *a->given)) return err_usage(e, "gpt: too many words");
    }
    return true;
}

static bool run_command(const Args *a, Err *e) {
    const Ranks ranks = a->cmd->ranks;
    if (ranks == RANKS_GRID) return a->cmd->run(a, e);
    bool ok = team_open(e) && (ranks == RANKS_SHARE || team_is_root() ? a->cmd->run(a, e) : true);
    return team_agree(ok, e);
}

/* Threads of GCC's OpenMP that wait for each other spin for milliseconds before they sleep. Where other programs want the
 * cores too, the one they wait for cannot run meanwhile, and small steps take longer by that. OpenMP reads how long when it
 * is loaded, before main, so the program starts once more, as the same process. */
static void spin_briefly(char **argv) {
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    self[n] = 0;
    setenv("GOMP_SPINCOUNT", "2000", 0);
    execv(self, argv); /* if it cannot: as it was */
}

int main(int argc, char **argv) {
    static Args a;
    Err e = {0};
    int words = 0;
    spin_briefly(argv);
    if (argc < 2 || !strcmp(argv[1], "--help") || (argc == 2 && !strcmp(argv[1], "help")))
        return help(argc < 2 ? stderr : stdout), argc < 2 ? EXIT_USAGE : 0;
    a.cmd = find_command(argc, argv, &words);
    if (!a.cmd) {
        fprintf(stderr, "gpt: no command \"%s\"; `gpt help` lists them\n", argv[1]);
        return EXIT_USAGE;
    }
    for (int i = 1 + words; i < argc; i++)
        if (!strcmp(argv[i], "--help")) return help_command(a.cmd), 0;
    if (parse(&a, argc - 1 - words, argv + 1 + words, &e)) run_command(&a, &e);
    if (fflush(stdout) != 0) err_set(&e, "cannot write to the output");
    if (e.code && comm_world_rank() == 0)
        fprintf(stderr, "gpt: %s\n", e.msg); /* it is the same on all ranks */
    team_close(); /* none leaves before it is printed: a launcher ends the rest when one has failed */
    return e.code;
}
