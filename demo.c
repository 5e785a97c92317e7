/* demo.c - the embedded corpus: tells stories by the rules of demo_grammar.h, and knows how likely they are.
 *
 * The rules are compiled once into pieces: text, draws and recalls. Telling a story walks the pieces; each
 * draw adds -log p. The entropy of a document is the same walk taken over every alternative at once: a draw
 * costs its own entropy plus the mean cost of what its alternatives say. Only recalls look back, and a recalled
 * rule was drawn exactly once, independently of everything else, so a recall costs the mean over that rule's
 * alternatives - or, inside the text of one of them, exactly that one. */
#include "demo.h"
#include "demo_grammar.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { N_RULES = sizeof demo_rules / sizeof *demo_rules, MAX_FORMS = 8, MAX_NAME = 32 };

typedef enum { TEXT, DRAW, RECALL } PieceKind;
typedef struct Piece {
    PieceKind kind;
    const char *text; /* TEXT: n bytes of it */
    size_t n;
    int rule, form; /* DRAW, RECALL */
    bool capital;
} Piece;

typedef struct Line { /* one form of one alternative: pieces [first, last) */
    int first, last;
} Line;

typedef struct Rule {
    int n, n_forms;
    Line *lines;     /* [n, n_forms] */
    uint32_t *below; /* [n]: the weights of alternatives 0..k, added up */
    double *nats;    /* [n]: -log p of each alternative */
    bool recalled;
} Rule;

typedef struct Grammar {
    Rule rules[N_RULES];
    Piece *pieces;
    int n, cap;
} Grammar;

/* ---- compiling the rules ------------------------------------------------------------------------------- */

static int find_rule(const char *name) {
    for (int r = 0; r < N_RULES; r++)
        if (!strcmp(demo_rules[r].name, name)) return r;
    check_failed(__FILE__, __LINE__, "a rule", "demo_grammar.h: no rule is named %s", name);
}

/* The index of a word in a list of words separated by spaces. */
static int find_form(const char *forms, const char *word, int rule) {
    size_t n = strlen(word);
    for (int i = 0; *forms; i++, forms += strspn(forms, " ")) {
        size_t len = strcspn(forms, " ");
        if (len == n && !memcmp(forms, word, n)) return i;
        forms += len;
    }
    check_failed(__FILE__, __LINE__, "a form", "demo_grammar.h: rule %s has no form %s",
                 demo_rules[rule].name, word);
}

/* "[rule.form]" or "{rule.form}", capital or not, at `text`; returns what follows it. */
static const char *compile_reference(Grammar *g, const char *text, Piece *p) {
    char name[2 * MAX_NAME];
    size_t n = strcspn(text, "]}");
    CHECK(text[n] == (*text == '[' ? ']' : '}') && n < sizeof name, "demo_grammar.h: %s", text);
    for (size_t i = 0; i + 1 < n; i++) {
        name[i] = (char)tolower(text[i + 1]);
        p->capital |= name[i] != text[i + 1];
    }
    name[n - 1] = 0;
    char *form = strchr(name, '.');
    if (form) *form++ = 0;
    p->kind = *text == '[' ? DRAW : RECALL;
    p->rule = find_rule(name);
    p->form = form ? find_form(demo_rules[p->rule].forms, form, p->rule) : 0;
    g->rules[p->rule].recalled |= p->kind == RECALL;
    return text + n + 1;
}

static Line compile_line(Grammar *g, const char *text, size_t n) {
    Line line = {.first = g->n};
    for (const char *end = text + n; text < end;) {
        Piece p = {.kind = TEXT, .text = text, .n = strcspn(text, "[{|")};
        text = p.n ? text + p.n : compile_reference(g, text, &p);
        if (g->n == g->cap) g->pieces = xrealloc(g->pieces, (size_t)(g->cap = 2 * g->cap + 256) * sizeof p);
        g->pieces[g->n++] = p;
    }
    line.last = g->n;
    return line;
}

static void compile_rule(Grammar *g, int r) {
    const DemoRule *source = &demo_rules[r];
    Rule *rule = &g->rules[r];
    rule->n_forms = 1;
    for (const char *s = source->forms; *s; s++) rule->n_forms += *s == ' ';
    while (source->alternatives[rule->n]) rule->n++;
    rule->lines = xcalloc((size_t)(rule->n * rule->n_forms), sizeof(Line));
    rule->below = xcalloc((size_t)rule->n, sizeof(uint32_t));
    rule->nats = xcalloc((size_t)rule->n, sizeof(double));
    uint32_t total = 0;
    for (int k = 0; k < rule->n; k++) {
        const char *text = source->alternatives[k];
        for (int f = 0; f < rule->n_forms; f++) {
            size_t n = strcspn(text, "|");
            bool last = f + 1 == rule->n_forms;
            CHECK(text[n] == (last ? 0 : '|'), "demo_grammar.h: %s has %d forms: %s", source->name,
                  rule->n_forms, source->alternatives[k]);
            rule->lines[k * rule->n_forms + f] = compile_line(g, text, n);
            text += n + !last;
        }
        rule->below[k] = total += demo_weight(k);
    }
    for (int k = 0; k < rule->n; k++) rule->nats[k] = log((double)total) - log((double)demo_weight(k));
}

static Grammar compiled;
static const Line whole = {0, 1}; /* a document: the first piece compiled, [story] */

static void compile(void) {
    compile_line(&compiled, "[story]", 7);
    for (int r = 0; r < N_RULES; r++) compile_rule(&compiled, r);
}

static const Grammar *grammar(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, compile);
    return &compiled;
}

static Line line_of(const Rule *rule, int alternative, int form) {
    return rule->lines[alternative * rule->n_forms + form];
}

/* ---- telling a story ----------------------------------------------------------------------------------- */

typedef struct Teller {
    const Grammar *g;
    uint64_t seed, index;
    uint64_t draws; /* made so far: the number of a draw and the index of the document are its counter */
    uint32_t block[4];
    int8_t drawn[N_RULES]; /* the alternative last drawn from each rule, -1: none */
    double nats;
    Str *out;
} Teller;

static int draw(Teller *t, const Rule *rule) {
    uint64_t i = t->draws++;
    if (i % 4 == 0) philox4x32(t->seed, (uint64_t)RAND_DEMO << 40 | i / 4, t->index, t->block);
    uint32_t x = (uint32_t)((uint64_t)t->block[i % 4] * rule->below[rule->n - 1] >> 32);
    int k = 0;
    while (x >= rule->below[k]) k++;
    t->nats += rule->nats[k];
    return k;
}

static void tell(Teller *t, Line line) {
    for (const Piece *p = t->g->pieces + line.first, *end = t->g->pieces + line.last; p < end; p++) {
        if (p->kind == TEXT) {
            str_put(t->out, p->text, p->n);
            continue;
        }
        const Rule *rule = &t->g->rules[p->rule];
        size_t at = t->out->n;
        bool fresh = t->drawn[p->rule] < 0;
        CHECK(p->kind == DRAW ? fresh || !rule->recalled : !fresh, "demo_grammar.h: %s",
              demo_rules[p->rule].name);
        if (p->kind == DRAW) t->drawn[p->rule] = (int8_t)draw(t, rule);
        tell(t, line_of(rule, t->drawn[p->rule], p->form));
        if (p->capital) t->out->p[at] = (char)toupper(t->out->p[at]);
    }
}

double demo_document(uint64_t seed, uint64_t index, Str *text) {
    Teller t = {.g = grammar(), .seed = seed, .index = index, .out = text};
    memset(t.drawn, -1, sizeof t.drawn);
    tell(&t, whole);
    return -t.nats;
}

/* ---- the floor ----------------------------------------------------------------------------------------- */

typedef struct Mean {
    double nats, bytes;
} Mean;

static Mean mean_of_line(const Grammar *g, Line line, int8_t *known);

/* The mean over a rule's alternatives of what `form` of them costs, each known while it speaks. */
static Mean mean_of_rule(const Grammar *g, int r, int form, int8_t *known) {
    const Rule *rule = &g->rules[r];
    if (known[r] >= 0) return mean_of_line(g, line_of(rule, known[r], form), known);
    Mean mean = {0};
    for (int k = 0; k < rule->n; k++) {
        known[r] = (int8_t)k;
        Mean m = mean_of_line(g, line_of(rule, k, form), known);
        mean.nats += exp(-rule->nats[k]) * m.nats;
        mean.bytes += exp(-rule->nats[k]) * m.bytes;
    }
    known[r] = -1;
    return mean;
}

static Mean mean_of_line(const Grammar *g, Line line, int8_t *known) {
    Mean mean = {0};
    for (const Piece *p = g->pieces + line.first, *end = g->pieces + line.last; p < end; p++) {
        Mean m = {.bytes = (double)p->n};
        if (p->kind != TEXT) m = mean_of_rule(g, p->rule, p->form, known);
        mean.nats += m.nats;
        mean.bytes += m.bytes;
        const Rule *rule = &g->rules[p->rule];
        for (int k = 0; p->kind == DRAW && k < rule->n; k++) mean.nats += exp(-rule->nats[k]) * rule->nats[k];
    }
    return mean;
}

void demo_entropy(double *nats_per_document, double *bytes_per_document) {
    int8_t known[N_RULES];
    memset(known, -1, sizeof known);
    Mean mean = mean_of_line(grammar(), whole, known);
    *nats_per_document = mean.nats;
    *bytes_per_document = mean.bytes;
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* A sink for lines: a file, through gzip if its name asks for it. */
typedef struct Sink {
    OutFile file;
    bool gzip;
    z_stream z;
} Sink;

static bool sink_open(Sink *s, const char *path, Err *e) {
    size_t n = strlen(path);
    *s = (Sink){.gzip = n > 3 && !strcmp(path + n - 3, ".gz")};
    if (!file_create(&s->file, path, e)) return false;
    /* 15 + 16: a window of 32 KiB and a gzip header, which holds no name and no time. */
    CHECK(!s->gzip || deflateInit2(&s->z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK,
          "out of memory");
    return true;
}

static void sink_put(Sink *s, const char *bytes, size_t n, bool last) {
    if (!s->gzip) {
        file_put(&s->file, bytes, n);
        return;
    }
    unsigned char block[1 << 15];
    s->z.next_in = (unsigned char *)(uintptr_t)bytes; /* zlib reads it only, but its field is not const */
    s->z.avail_in = (unsigned)n;
    do {
        s->z.next_out = block;
        s->z.avail_out = sizeof block;
        deflate(&s->z, last ? Z_FINISH : Z_NO_FLUSH);
        file_put(&s->file, block, sizeof block - s->z.avail_out);
    } while (s->z.avail_out == 0);
}

static bool sink_close(Sink *s, Err *e) {
    sink_put(s, "", 0, true);
    if (s->gzip) deflateEnd(&s->z);
    return file_commit(&s->file, e);
}

/* {"text": ..., "nats": ...}; the only character of the rules that JSON escapes is the quotation mark. */
static void put_line(Str *line, const Str *text, double nats) {
    str_puts(line, "{\"text\": \"");
    for (const char *p = text->p, *end = text->p + text->n; p < end;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        size_t n = (size_t)((quote ? quote : end) - p);
        str_put(line, p, n);
        if (quote) str_puts(line, "\\\"");
        p += n + 1;
    }
    str_printf(line, "\", \"nats\": %.17g}\n", nats);
}

bool demo_write(const char *path, uint64_t seed, uint64_t bytes, uint64_t documents, Err *e) {
    Sink sink;
    Str text = {0}, line = {0};
    if (!sink_open(&sink, path, e)) return false;
    for (uint64_t i = 0, written = 0; written < bytes && i < documents && !sink.file.err.code; i++) {
        text.n = line.n = 0;
        double nats = -demo_document(seed, i, &text);
        put_line(&line, &text, nats);
        sink_put(&sink, line.p, line.n, false);
        written += text.n;
    }
    str_free(&text);
    str_free(&line);
    return sink_close(&sink, e);
}
