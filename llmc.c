/* llmc.c - floor 4: see llmc.h. */
#include "llmc.h"

#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 256, HEADER = WORDS * 4, MAGIC = 20240326, BLOCK = 1 << 18 /* floats */ };
enum { VERSION_F32 = 3, VERSION_BF16 = 5 };

/* The kinds of parameters in file order. */
static const struct {
    const char *name; /* Hugging Face's, below "h.N." if layered */
    bool layered, transposed;
} kinds[] = {
    {"wte.weight", false, false},       {"wpe.weight", false, false},       {"ln_1.weight", true, false},
    {"ln_1.bias", true, false},         {"attn.c_attn.weight", true, true}, {"attn.c_attn.bias", true, false},
    {"attn.c_proj.weight", true, true}, {"attn.c_proj.bias", true, false},  {"ln_2.weight", true, false},
    {"ln_2.bias", true, false},         {"mlp.c_fc.weight", true, true},    {"mlp.c_fc.bias", true, false},
    {"mlp.c_proj.weight", true, true},  {"mlp.c_proj.bias", true, false},   {"ln_f.weight", false, false},
    {"ln_f.bias", false, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const Param *find(const Param *table, int n, int kind, int layer) {
    char name[64];
    snprintf(name, sizeof name, kinds[kind].layered ? "h.%2$d.%1$s" : "%1$s", kinds[kind].name, layer);
    for (int i = 0; i < n; i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    CHECK(false, "no parameter %s", name);
    return NULL;
}

/* Parameter `i` of the file, in file order; NULL after the last. */
typedef struct Slot {
    const Param *p;
    bool transposed;
} Slot;
static Slot slot_of(const Param *table, int n, int64_t L, int64_t i) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        int64_t layers = kinds[kind].layered ? L : 1;
        if (i < layers) return (Slot){find(table, n, kind, (int)i), kinds[kind].transposed};
        i -= layers;
    }
    return (Slot){0};
}

/* ---- reading --------------------------------------------------------------------------------------------- */

/* Where a tensor stands in the file. */
typedef struct Place {
    int64_t at; /* its first number, counted from the end of the header */
    bool transposed;
} Place;

typedef struct File {
    Map map;
    int width; /* bytes a number */
    int64_t padded_vocab;
    bool has_crc;
    uint32_t crc;
    ModelConfig config;
    Place *place; /* of each row of the table */
} File;

static uint32_t word(const File *f, int i) {
    const uint8_t *p = f->map.p + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Limits are config.c's; within them no product of sizes overflows 64 bits. */
static bool read_header(File *f, const char *path, Err *e) {
    ModelConfig *c = &f->config;
    const struct {
        const char *what;
        int64_t *to, max;
    } sizes[] = {
        {"positions", &c->n_positions, 1 << 24}, {"vocabulary", &c->vocab_size, 1 << 24},
        {"layers", &c->n_layer, 4096},           {"heads", &c->n_head, 4096},
        {"width", &c->n_embd, 1 << 20},          {"padded vocabulary", &f->padded_vocab, 1 << 25},
    };
    Config defaults;
    config_defaults(&defaults);
    *c = defaults.model;
    if (f->map.n < HEADER || word(f, 0) != MAGIC)
        return err_set(e, "%s: is not an llm.c model: it does not start with %d", path, MAGIC);
    if (word(f, 1) != VERSION_F32 && word(f, 1) != VERSION_BF16)
        return err_set(e, "%s: version %" PRIu32 " of llm.c's model file; %d (fp32) and %d (bf16) are read",
                       path, word(f, 1), VERSION_F32, VERSION_BF16);
    f->width = word(f, 1) == VERSION_F32 ? 4 : 2;
    for (int i = 0; i < 6; i++) {
        *sizes[i].to = (int64_t)word(f, 2 + i);
        if (*sizes[i].to < 1 || *sizes[i].to > sizes[i].max)
            return err_set(e, "%s: its header says %s %" PRId64 "; 1 to %" PRId64 " are possible", path,
                           sizes[i].what, *sizes[i].to, sizes[i].max);
    }
    if (f->padded_vocab < c->vocab_size)
        return err_set(e, "%s: its header pads the vocabulary %" PRId64 " to only %" PRId64, path,
                       c->vocab_size, f->padded_vocab);
    f->has_crc = word(f, 8) == 1;
    f->crc = word(f, 9);
    return model_check(c, path, e);
}

static bool check_size(const File *f, const char *path, Err *e) {
    const ModelConfig *c = &f->config;
    int64_t numbers = gpt_count(c, true) + (f->padded_vocab - c->vocab_size) * c->n_embd;
    uint64_t bytes = HEADER + (uint64_t)numbers * (uint64_t)f->width;
    return bytes == f->map.n || err_set(e,
                                        "%s: has %zu bytes; a model of n_layer %" PRId64
                                        " and n_embd %" PRId64 " takes %" PRIu64 "; truncated?",
                                        path, f->map.n, c->n_layer, c->n_embd, bytes);
}

static bool check_crc(const File *f, const char *path, Err *e) {
    static const uint8_t zero[4];
    uint32_t crc = crc32_of(0, f->map.p, 9 * 4);
    crc = crc32_of(crc, zero, 4);
    crc = crc32_of(crc, f->map.p + 10 * 4, f->map.n - 10 * 4);
    return !f->has_crc || crc == f->crc || err_set(e, "%s: crc32 mismatch; the file is damaged", path);
}

static bool file_open(File *f, const char *path, Err *e) {
    *f = (File){0};
    if (!map_open(&f->map, path, e)) return false;
    if (read_header(f, path, e) && check_size(f, path, e)) return true;
    map_close(&f->map);
    return false;
}

bool llmc_config(const char *path, ModelConfig *c, Err *e) {
    File f;
    if (!file_open(&f, path, e)) return false;
    *c = f.config;
    map_close(&f.map);
    return true;
}

/* n numbers of the file from byte *src on, as fp32. */
static void read_numbers(const uint8_t *src, int width, int64_t n, float *dst) {
    if (width == 4) {
        memcpy(dst, src, (size_t)n * 4);
        return;
    }
    for (int64_t i = 0; i < n; i++) dst[i] = f32_from_bf16((uint16_t)(src[2 * i] | src[2 * i + 1] << 8));
}

/* Rows r0 ... of the columns c0 ... of a matrix that stands in the file as [columns, rows], from number `at` on: to dst,
 * row after row. In squares that fit the cache. */
static void read_transposed(const File *f, int64_t at, int64_t rows, int64_t r0, int64_t n_rows, int64_t c0,
                            int64_t n_columns, float *dst) {
    enum { SIDE = 32 };
    const uint8_t *src = f->map.p + HEADER + (at + c0 * rows + r0) * f->width;
    for (int64_t i0 = 0; i0 < n_rows; i0 += SIDE)
        for (int64_t k0 = 0; k0 < n_columns; k0 += SIDE)
            for (int64_t k = k0; k < n_columns && k < k0 + SIDE; k++) {
                float line[SIDE];
                const int64_t n = n_rows - i0 < SIDE ? n_rows - i0 : SIDE;
                read_numbers(src + (k * rows + i0) * f->width, f->width, n, line);
                for (int64_t i = 0; i < n; i++) dst[(i0 + i) * n_columns + k] = line[i];
            }
}

/* Elements [at, at + n) of a transposed tensor: the end of a row, whole rows, the beginning of one. */
static void read_across(const File *f, const Param *p, int64_t at, int64_t n, float *dst) {
    const int64_t rows = p->shape[0], columns = p->shape[1], first = f->place[p->row].at;
    while (n > 0) {
        const int64_t row = at / columns, column = at % columns, whole = column ? 0 : n / columns;
        const int64_t wide = whole ? columns : column + n < columns ? n : columns - column;
        const int64_t k = whole ? whole * columns : wide;
        read_transposed(f, first, rows, row, whole ? whole : 1, column, wide, dst);
        at += k, dst += k, n -= k;
    }
}

static void llmc_read(const ModelFile *s, int set, const Param *p, int64_t at, int64_t n, float *dst) {
    const File *f = s->file;
    const Place x = f->place[p->row];
    CHECK(set == 0);
    if (x.transposed)
        read_across(f, p, at, n, dst);
    else
        read_numbers(f->map.p + HEADER + (x.at + at) * f->width, f->width, n, dst);
}

static void llmc_close(ModelFile *s) {
    File *f = s->file;
    map_close(&f->map);
    free(f->place);
    free(f);
}

static void find_places(File *f) {
    int n;
    int64_t elements, at = 0;
    Param *table = gpt_params(&f->config, NULL, &n, &elements);
    Slot s;
    f->place = xcalloc((size_t)n, sizeof *f->place);
    for (int64_t i = 0; (s = slot_of(table, n, f->config.n_layer, i)).p; i++) {
        f->place[s.p->row] = (Place){at, s.transposed};
        at += s.p->count;
        if (i == 0) at += (f->padded_vocab - f->config.vocab_size) * f->config.n_embd; /* wte's padding */
    }
    free(table);
}

bool llmc_open(ModelFile *s, const char *path, Err *e) {
    File f;
    if (!file_open(&f, path, e)) return false;
    if (!check_crc(&f, path, e)) return map_close(&f.map), false;
    find_places(&f);
    *s = (ModelFile){llmc_read, llmc_close, xmalloc(sizeof f)};
    memcpy(s->file, &f, sizeof f);
    return true;
}

/* ---- writing --------------------------------------------------------------------------------------------- */

static bool can_be_written(const ModelConfig *c, const char *path, Err *e) {
    const struct {
        bool ok;
        const char *what;
    } needs[] = {
        {!strcmp(c->model_type, "gpt2"), "model_type gpt2"},
        {c->tie_word_embeddings, "tied embeddings"},
        {model_inner(c) == 4 * c->n_embd, "n_inner of 4 * n_embd"},
        {c->layer_norm_epsilon == 1e-5, "layer_norm_epsilon 1e-5"},
        {!c->scale_attn_by_inverse_layer_idx, "scale_attn_by_inverse_layer_idx false"},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (!needs[i].ok)
            return err_set(e, "%s: llm.c's format takes only models with %s", path, needs[i].what);
    return true;
}

static void put_header(OutFile *f, const ModelConfig *c, int64_t padded_vocab) {
    const int64_t words[] = {
        MAGIC, VERSION_F32, c->n_positions, c->vocab_size, c->n_layer, c->n_head, c->n_embd, padded_vocab, 1};
    uint8_t header[HEADER] = {0};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int b = 0; b < 4; b++) header[4 * i + (size_t)b] = (uint8_t)(words[i] >> 8 * b);
    file_put(f, header, sizeof header);
}

/* to [columns, rows] = from [rows, columns], in squares that fit the cache. */
static void transpose(float *to, const float *from, int64_t rows, int64_t columns) {
    enum { SIDE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += SIDE)
        for (int64_t c0 = 0; c0 < columns; c0 += SIDE)
            for (int64_t r = r0; r < rows && r < r0 + SIDE; r++)
                for (int64_t c = c0; c < columns && c < c0 + SIDE; c++)
                    to[c * rows + r] = from[r * columns + c];
}

/* wte goes with its padding, zeros. */
static void put_param(OutFile *f, const ModelFile *src, Slot s, float *a, float *b) {
    const int64_t step = s.transposed ? s.p->count : BLOCK;
    for (int64_t at = 0, k; at < s.p->count; at += k) {
        k = s.p->count - at < step ? s.p->count - at : step;
        src->read(src, 0, s.p, at, k, a);
        if (s.transposed) transpose(b, a, s.p->shape[0], s.p->shape[1]);
        file_put(f, s.transposed ? b : a, (size_t)k * sizeof *a);
    }
    memset(a, 0, (size_t)s.p->shape[1] * sizeof *a);
    for (int64_t at = s.p->count; at < s.p->padded; at += s.p->shape[1])
        file_put(f, a, (size_t)s.p->shape[1] * sizeof *a);
}

bool llmc_save(const ModelFile *src, const ModelConfig *c, const char *path, Err *e) {
    OutFile f;
    int n;
    int64_t elements, most = BLOCK;
    if (!can_be_written(c, path, e) || !file_create(&f, path, e)) return false;
    Param *table = gpt_params(c, NULL, &n, &elements);
    if (most < c->n_embd * model_inner(c)) most = c->n_embd * model_inner(c); /* the largest matrix */
    float *a = xmalloc((size_t)most * sizeof *a), *b = xmalloc((size_t)most * sizeof *b);
    Slot s;
    put_header(&f, c, find(table, n, 0, 0)->padded / c->n_embd);
    for (int64_t i = 0; (s = slot_of(table, n, c->n_layer, i)).p; i++) put_param(&f, src, s, a, b);
    uint8_t crc[4] = {(uint8_t)f.crc, (uint8_t)(f.crc >> 8), (uint8_t)(f.crc >> 16), (uint8_t)(f.crc >> 24)};
    file_patch(&f, 9 * 4, crc, sizeof crc);
    free(a);
    free(b);
    free(table);
    return file_commit(&f, e);
}
