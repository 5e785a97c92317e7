/* main.c - floor 7: the command table. The only place that prints an error and exits. */
#include "checkpoint.h"
#include "config.h"
#include "dataloader.h"
#include "demo.h"
#include "tokenizer.h"
#include "train.h"
#include "util.h"

#include <errno.h>
#include <math.h>
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
    bool many; /* takes all words up to the next flag, and may be repeated */
} Flag;

typedef struct Command Command;
typedef struct Args {
    const Command *cmd;
    int n;
    struct {
        const Flag *flag;
        const char *value;
    } given[4096];
} Args;

struct Command {
    const char *name; /* one or two words: "data shard" */
    const char *help; /* one line */
    const Flag *flags;
    bool (*run)(const Args *a, Err *e);
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

/* ---- the commands ---------------------------------------------------------------------------------------- */

static bool cmd_version(const Args *a, Err *e) {
    (void)a, (void)e;
    puts("gpt 0.1");
    return true;
}

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
    {"--data", "SHARDS", "a shard, a folder of shards, or a quoted pattern", false},
    {"--tokenizer", "DIR", "show documents as text, and check that no id is beyond this vocabulary", false},
    {"--documents", "N", "how many documents to show the beginnings of (3)", false},
    {"--verify", NULL, "read every token: checksums, ids, number of documents", false},
    {0}};

static bool cmd_data_inspect(const Args *a, Err *e) {
    const char *data = arg_needed(a, "--data", e), *dir = arg(a, "--tokenizer", NULL);
    uint64_t documents;
    Str out = {0};
    if (!data || !arg_count(a, "--documents", 3, &documents, e)) return false;
    Tokenizer *t = dir ? tokenizer_open(dir, e) : NULL;
    bool ok = (t || !dir) && shard_inspect(data, arg(a, "--verify", NULL),
                                           (int)(documents < INT32_MAX ? documents : INT32_MAX),
                                           t ? tokenizer_size(t) : 0, t ? decode_text : NULL, t, &out, e);
    if (out.n) fwrite(out.p, 1, out.n, stdout);
    str_free(&out);
    tokenizer_free(t);
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

/* Ids as text, space between, newline at the end. */
static void print_ids(const Ids *ids) {
    enum { WIDEST = 12, BLOCK = 1 << 16 };
    char block[BLOCK];
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        char digits[WIDEST];
        int at = WIDEST;
        digits[--at] = i + 1 < ids->n ? ' ' : '\n';
        for (int32_t v = ids->id[i]; at == WIDEST - 1 || v; v /= 10) digits[--at] = (char)('0' + v % 10);
        if (n + WIDEST > BLOCK) fwrite(block, 1, n, stdout), n = 0;
        memcpy(block + n, digits + at, (size_t)(WIDEST - at));
        n += (size_t)(WIDEST - at);
    }
    fwrite(block, 1, n, stdout);
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
        print_ids(&ids);
    str_free(&text);
    ids_free(&ids);
    tokenizer_free(t);
    return ok;
}

static const Flag tokenizer_decode_flags[] = {
    {"--tokenizer", "DIR", "a folder with a tokenizer, or a tokenizer.json", false},
    {"--input", "FILE", "ids with white space between (stdin)", false},
    {0}};

/* Numbers with white space between. */
static bool parse_ids(const Str *text, Ids *ids, Err *e) {
    const char *white = " \t\r\n\v\f", *p = text->p, *end = text->p + text->n;
    size_t cap = 0;
    for (;;) {
        while (p < end && *p && strchr(white, *p)) p++;
        if (p == end) return true;
        const char *word = p;
        int64_t v = 0;
        while (p < end && *p >= '0' && *p <= '9' && v <= INT32_MAX) v = v * 10 + *p++ - '0';
        if (p == word || v > INT32_MAX || (p < end && !(*p && strchr(white, *p)))) {
            while (p < end && !(*p && strchr(white, *p))) p++;
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
    if (ok) fwrite(out.p, 1, out.n, stdout);
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

static bool cmd_train(const Args *a, Err *e) {
    static Config c;
    const char *file = arg(a, "--config", NULL);
    TrainOptions o = {.resume = arg(a, "--resume", NULL) != NULL,
                      .overwrite = arg(a, "--overwrite", NULL) != NULL};
    if (!file) return err_usage(e, "gpt train: --config FILE is needed; see configs/");
    config_defaults(&c);
    if (!config_read(&c, file, e)) return false;
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->given[i].flag->name, "--set") && !config_set(&c, a->given[i].value, e)) return false;
    return train_run(&c, &o, e);
}

static bool cmd_help_config(const Args *a, Err *e) {
    Str s = {0};
    (void)a, (void)e;
    config_help(&s);
    fputs(s.p, stdout);
    str_free(&s);
    return true;
}

static const Command commands[] = {
    {"train", "pretrain or go on training: the config says which", train_flags, cmd_train},
    {"data demo", "write the embedded corpus: short stories of exactly known probability", demo_flags,
     cmd_data_demo},
    {"data shard", "text to token shards", shard_flags, cmd_data_shard},
    {"data inspect", "what is in token shards", inspect_flags, cmd_data_inspect},
    {"tokenizer train", "learn a byte-level BPE vocabulary from text", tokenizer_train_flags,
     cmd_tokenizer_train},
    {"tokenizer encode", "text to ids", tokenizer_encode_flags, cmd_tokenizer_encode},
    {"tokenizer decode", "ids to text", tokenizer_decode_flags, cmd_tokenizer_decode},
    {"convert", "a model in another format", convert_flags, cmd_convert},
    {"help config", "every key of a config: its default, its meaning, its range", no_flags, cmd_help_config},
    {"version", "what this binary is", no_flags, cmd_version},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *f) {
    fputs("usage: gpt COMMAND [--flag value ...]     gpt COMMAND --help\n\n", f);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(f, "  %-20s %s\n", commands[i].name, commands[i].help);
}

static void help_command(const Command *c) {
    printf("gpt %s: %s\n\n", c->name, c->help);
    for (const Flag *f = c->flags; f->name; f++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s%s", f->name, f->arg ? f->arg : "", f->many ? " ..." : "");
        printf("  %-28s %s\n", left, f->help);
    }
}

/* The command that argv names, and how many words its name took. */
static const Command *find_command(int argc, char **argv, int *words) {
    for (int i = 0; i < N_COMMANDS; i++) {
        char two[64] = "";
        if (argc > 2) snprintf(two, sizeof two, "%s %s", argv[1], argv[2]);
        if (argc > 1 && !strcmp(argv[1], commands[i].name)) return *words = 1, &commands[i];
        if (argc > 2 && !strcmp(two, commands[i].name)) return *words = 2, &commands[i];
    }
    return NULL;
}

static bool parse(Args *a, int argc, char **argv, Err *e) {
    const Flag *open = NULL; /* a flag that still takes words */
    for (int i = 0; i < argc; i++) {
        const char *w = argv[i], *value = "";
        if (strncmp(w, "--", 2) == 0 && w[2]) {
            const Flag *f = a->cmd->flags;
            while (f->name && strcmp(f->name, w)) f++;
            if (!f->name)
                return err_usage(e, "gpt %s: unknown flag %s; see gpt %s --help", a->cmd->name, w,
                                 a->cmd->name);
            open = f->many ? f : NULL;
            if (f->arg && ++i == argc)
                return err_usage(e, "gpt %s: %s needs a value: %s", a->cmd->name, w, f->arg);
            if (f->arg) value = argv[i];
            a->given[a->n].flag = f;
        } else if (open) {
            a->given[a->n].flag = open;
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

int main(int argc, char **argv) {
    static Args a;
    Err e = {0};
    int words = 0;
    if (argc < 2 || !strcmp(argv[1], "--help") || (argc == 2 && !strcmp(argv[1], "help")))
        return help(argc < 2 ? stderr : stdout), argc < 2 ? EXIT_USAGE : 0;
    a.cmd = find_command(argc, argv, &words);
    if (!a.cmd) {
        fprintf(stderr, "gpt: no command \"%s\"; `gpt help` lists them\n", argv[1]);
        return EXIT_USAGE;
    }
    for (int i = 1 + words; i < argc; i++)
        if (!strcmp(argv[i], "--help")) return help_command(a.cmd), 0;
    if (parse(&a, argc - 1 - words, argv + 1 + words, &e)) a.cmd->run(&a, &e);
    if (fflush(stdout) != 0) err_set(&e, "cannot write to the output");
    if (e.code) fprintf(stderr, "gpt: %s\n", e.msg);
    return e.code;
}
