/* main.c - floor 7: the command table. The only place that prints an error and exits. */
#include "demo.h"
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

static const Command commands[] = {
    {"data demo", "write the embedded corpus: short stories of exactly known probability", demo_flags,
     cmd_data_demo},
    {"version", "what this binary is", (const Flag[]){{0}}, cmd_version},
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
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
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
