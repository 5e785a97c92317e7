/* safetensors.c - floor 2: see safetensors.h. The format: u64 length of the header (little-endian), the header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}, the data. */
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100 * 1000 * 1000 }; /* the reference implementation's limit */

static const struct {
    char name[5];
    uint8_t size;
} dtypes[] = {
    [ST_F32] = {"F32", 4}, [ST_F16] = {"F16", 2},   [ST_BF16] = {"BF16", 2}, [ST_F64] = {"F64", 8},
    [ST_I64] = {"I64", 8}, [ST_I32] = {"I32", 4},   [ST_I16] = {"I16", 2},   [ST_I8] = {"I8", 1},
    [ST_U8] = {"U8", 1},   [ST_BOOL] = {"BOOL", 1},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };
_Static_assert(N_DTYPES == ST_BOOL + 1, "each dtype has a name and a size");

size_t st_dtype_size(StDtype d) {
    return dtypes[d].size;
}

/* ---- reading: one file ----------------------------------------------------------------------------------- */

/* The JSON of `text`, which must hold one object and nothing after it. cJSON gets a NUL-terminated copy: some
 * releases read past the end of a text that is given with its length. */
static cJSON *parse_object(const char *path, const uint8_t *text, size_t n, Err *e) {
    if (memchr(text, 0, n) || !utf8_valid((const char *)text, n)) {
        err_set(e, "%s: the header is not UTF-8 text", path);
        return NULL;
    }
    char *copy = xmalloc(n + 1);
    memcpy(copy, text, n);
    copy[n] = 0;
    const char *end = copy;
    cJSON *j = cJSON_ParseWithOpts(copy, &end, true);
    if (!j) err_set(e, "%s: the header is not JSON, from its byte %zu on", path, (size_t)(end - copy));
    free(copy);
    if (j && !cJSON_IsObject(j)) {
        err_set(e, "%s: the header is not a JSON object", path);
        cJSON_Delete(j);
        j = NULL;
    }
    return j;
}

/* A count or an offset. cJSON keeps numbers as doubles, exact up to 2^53: 8 PiB, more than any file has. */
static bool whole_number(const cJSON *j, uint64_t *out) {
    if (!cJSON_IsNumber(j) || !(j->valuedouble >= 0 && j->valuedouble <= 0x1p53)) return false;
    *out = (uint64_t)j->valuedouble;
    return (double)*out == j->valuedouble;
}

static bool parse_dtype(StTensor *t, const cJSON *j, const char *path, Err *e) {
    const char *name = cJSON_IsString(j) ? j->valuestring : "none";
    for (int d = 0; d < N_DTYPES; d++)
        if (!strcmp(name, dtypes[d].name)) return t->dtype = (StDtype)d, true;
    return err_set(e, "%s: tensor \"%.200s\": unknown dtype \"%.40s\"", path, t->name, name);
}

/* Fills rank and shape; *bytes is what they need. */
static bool parse_shape(StTensor *t, const cJSON *j, const char *path, size_t *bytes, Err *e) {
    *bytes = st_dtype_size(t->dtype);
    if (!cJSON_IsArray(j)) return err_set(e, "%s: tensor \"%.200s\": has no shape", path, t->name);
    for (const cJSON *d = j->child; d; d = d->next) {
        if (t->rank == ST_MAX_RANK)
            return err_set(e, "%s: tensor \"%.200s\": more than %d dimensions", path, t->name, ST_MAX_RANK);
        if (!whole_number(d, &t->shape[t->rank]))
            return err_set(e, "%s: tensor \"%.200s\": dimension %d is not a whole number", path, t->name,
                           t->rank);
        if (!size_mul(*bytes, t->shape[t->rank++], bytes))
            return err_set(e, "%s: tensor \"%.200s\": its shape overflows", path, t->name);
    }
    return true;
}

/* Fills begin and end, which must lie in the n bytes of data and hold the `bytes` of the shape. */
static bool parse_offsets(StTensor *t, const cJSON *j, const char *path, size_t n, size_t bytes, Err *e) {
    const cJSON *first = cJSON_IsArray(j) ? j->child : NULL, *second = first ? first->next : NULL;
    if (!second || second->next || !whole_number(first, &t->begin) || !whole_number(second, &t->end))
        return err_set(e, "%s: tensor \"%.200s\": data_offsets must be two whole numbers", path, t->name);
    if (t->begin > t->end || t->end > n)
        return err_set(e,
                       "%s: tensor \"%.200s\": bytes %" PRIu64 " to %" PRIu64
                       " are outside the file's %zu bytes of data; truncated?",
                       path, t->name, t->begin, t->end, n);
    if (t->end - t->begin != bytes)
        return err_set(e, "%s: tensor \"%.200s\": its shape needs %zu bytes, its offsets give %" PRIu64, path,
                       t->name, bytes, (t->end - t->begin));
    return true;
}

static bool parse_tensor(StTensor *t, const cJSON *entry, const char *path, const uint8_t *data, size_t n,
                         Err *e) {
    static const char *const field[] = {"dtype", "shape", "data_offsets"};
    const cJSON *value[3] = {0};
    size_t bytes;
    if (!cJSON_IsObject(entry)) return err_set(e, "%s: tensor \"%.200s\": not a JSON object", path, t->name);
    for (const cJSON *j = entry->child; j; j = j->next)
        for (int i = 0; i < 3; i++) {
            if (strcmp(j->string, field[i])) continue;
            if (value[i])
                return err_set(e, "%s: tensor \"%.200s\": %s is given twice", path, t->name, field[i]);
            value[i] = j;
        }
    if (!parse_dtype(t, value[0], path, e) || !parse_shape(t, value[1], path, &bytes, e) ||
        !parse_offsets(t, value[2], path, n, bytes, e))
        return false;
    t->data = data + t->begin;
    return true;
}

static bool parse_metadata(SafeTensors *s, const cJSON *meta, const char *path, Err *e) {
    if (!cJSON_IsObject(meta)) return err_set(e, "%s: __metadata__ is not a JSON object", path);
    int n = cJSON_GetArraySize(meta);
    s->keys = xrealloc(s->keys, (size_t)(s->n_meta + n) * sizeof *s->keys);
    s->values = xrealloc(s->values, (size_t)(s->n_meta + n) * sizeof *s->values);
    for (const cJSON *j = meta->child; j; j = j->next) {
        if (!cJSON_IsString(j))
            return err_set(e, "%s: __metadata__ \"%.200s\" is not a text", path, j->string);
        s->keys[s->n_meta] = xstrdup(j->string);
        s->values[s->n_meta++] = xstrdup(j->valuestring);
    }
    return true;
}

static int by_begin(const void *a, const void *b) {
    const StTensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors of one file must cover its n bytes of data, each byte once. */
static bool check_cover(StTensor *t, int count, const char *path, size_t n, Err *e) {
    uint64_t at = 0;
    if (count) qsort(t, (size_t)count, sizeof *t, by_begin);
    for (int i = 0; i < count; at = t[i++].end) {
        if (t[i].begin < at)
            return err_set(e, "%s: tensors \"%.200s\" and \"%.200s\" overlap", path, t[i - 1].name,
                           t[i].name);
        if (t[i].begin > at) break;
    }
    if (at == n) return true;
    return err_set(e, "%s: no tensor owns the data from byte %" PRIu64 " on", path, at);
}

static bool read_entries(SafeTensors *s, const cJSON *header, const char *path, const uint8_t *data, size_t n,
                         Err *e) {
    int first = s->n;
    s->tensors = xrealloc(s->tensors, (size_t)(s->n + cJSON_GetArraySize(header)) * sizeof *s->tensors);
    for (const cJSON *j = header->child; j; j = j->next) {
        if (!strcmp(j->string, "__metadata__")) {
            if (!parse_metadata(s, j, path, e)) return false;
            continue;
        }
        StTensor *t = &s->tensors[s->n++];
        *t = (StTensor){.name = xstrdup(j->string)};
        if (!parse_tensor(t, j, path, data, n, e)) return false;
    }
    return check_cover(s->tensors + first, s->n - first, path, n, e);
}

/* Maps one file and appends its tensors. */
static bool read_file(SafeTensors *s, const char *path, Err *e) {
    s->maps = xrealloc(s->maps, (size_t)(s->n_maps + 1) * sizeof *s->maps);
    Map *m = &s->maps[s->n_maps];
    if (!map_open(m, path, e)) return false;
    s->n_maps++;
    if (m->n < 8) return err_set(e, "%s: too short for a safetensors file", path);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | m->p[i];
    if (length > m->n - 8)
        return err_set(e,
                       "%s: its header should be %" PRIu64
                       " bytes long, the whole file has %zu; truncated, or not safetensors",
                       path, length, m->n);
    if (length > MAX_HEADER) return err_set(e, "%s: its header is longer than the 100 MB allowed", path);
    cJSON *header = parse_object(path, m->p + 8, (size_t)length, e);
    bool ok = header && read_entries(s, header, path, m->p + 8 + length, m->n - 8 - (size_t)length, e);
    cJSON_Delete(header);
    return ok;
}

/* ---- reading: a folder ----------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

static bool sort_tensors(SafeTensors *s, const char *path, Err *e) {
    if (s->n) qsort(s->tensors, (size_t)s->n, sizeof *s->tensors, by_name);
    for (int i = 1; i < s->n; i++)
        if (!by_name(&s->tensors[i - 1], &s->tensors[i]))
            return err_set(e, "%s: two tensors are named \"%.200s\"", path, s->tensors[i].name);
    return true;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The distinct files of a weight_map {"tensor": "file"}, sorted, borrowed from it. They must be plain names: an
 * index must not reach outside its folder. */
static bool index_files(const cJSON *map, const char *path, const char ***files, int *n, Err *e) {
    int all = 0;
    *files = xmalloc((size_t)cJSON_GetArraySize(map) * sizeof **files);
    for (const cJSON *j = map->child; j; j = j->next) {
        if (!cJSON_IsString(j) || !*j->valuestring || strchr(j->valuestring, '/'))
            return err_set(e, "%s: weight_map \"%.200s\" does not name a file in this folder", path,
                           j->string);
        (*files)[all++] = j->valuestring;
    }
    if (all) qsort(*files, (size_t)all, sizeof **files, by_text);
    for (int i = 0; i < all; i++)
        if (!*n || strcmp((*files)[i], (*files)[*n - 1])) (*files)[(*n)++] = (*files)[i];
    return true;
}

/* Each tensor must be in the file that the index gives for it: files[k] is mapped at s->maps[k]. */
static bool check_index(const SafeTensors *s, const cJSON *map, const char *path, const char **files, int n,
                        Err *e) {
    for (const cJSON *j = map->child; j; j = j->next) {
        const StTensor *t = st_find(s, j->string);
        const char *const *file = bsearch(&j->valuestring, files, (size_t)n, sizeof *files, by_text);
        const Map *m = &s->maps[file - files];
        if (!t || (uintptr_t)t->data - (uintptr_t)m->p > m->n)
            return err_set(e, "%s: tensor \"%.200s\" is not in %s", path, j->string, *file);
    }
    return true;
}

/* NAME in the folder of a file. malloc'd. */
static char *beside(const char *file, const char *name) {
    const char *slash = strrchr(file, '/');
    Str s = {0};
    str_printf(&s, "%.*s%s", slash ? (int)(slash + 1 - file) : 0, file, name);
    return s.p;
}

static bool read_index(SafeTensors *s, const char *path, Err *e) {
    char *text;
    size_t n;
    if (!file_read(path, MAX_HEADER, &text, &n, e)) return false;
    cJSON *index = parse_object(path, (uint8_t *)text, n, e);
    const cJSON *map = index ? cJSON_GetObjectItemCaseSensitive(index, "weight_map") : NULL;
    const char **files = NULL;
    int n_files = 0;
    bool ok = index && (cJSON_IsObject(map) || err_set(e, "%s: has no weight_map", path)) &&
              index_files(map, path, &files, &n_files, e);
    for (int i = 0; ok && i < n_files; i++) {
        char *file = beside(path, files[i]);
        ok = read_file(s, file, e);
        free(file);
    }
    ok = ok && sort_tensors(s, path, e) && check_index(s, map, path, files, n_files, e);
    free(files);
    cJSON_Delete(index);
    free(text);
    return ok;
}

static const char INDEX[] = ".index.json";

char *st_path(const char *path) {
    char *file = path_is_dir(path) ? path_join(path, "model.safetensors") : xstrdup(path);
    Str index = {0};
    str_printf(&index, "%s%s", file, INDEX);
    const bool indexed = path_exists(index.p) && !path_exists(file);
    free(indexed ? file : index.p);
    return indexed ? index.p : file;
}

bool st_open(SafeTensors *s, const char *path, Err *e) {
    *s = (SafeTensors){0};
    char *file = st_path(path);
    const size_t n = strlen(file), k = strlen(INDEX);
    bool ok = n > k && !strcmp(file + n - k, INDEX) ? read_index(s, file, e)
                                                    : read_file(s, file, e) && sort_tensors(s, file, e);
    if (!ok) st_close(s);
    free(file);
    return ok;
}

void st_close(SafeTensors *s) {
    for (int i = 0; i < s->n_maps; i++) map_close(&s->maps[i]);
    for (int i = 0; i < s->n; i++) free(s->tensors[i].name);
    for (int i = 0; i < s->n_meta; i++) free(s->keys[i]), free(s->values[i]);
    free(s->maps);
    free(s->tensors);
    free(s->keys);
    free(s->values);
    *s = (SafeTensors){0};
}

const StTensor *st_find(const SafeTensors *s, const char *name) {
    StTensor key = {.name = (char *)name};
    return s->n ? bsearch(&key, s->tensors, (size_t)s->n, sizeof key, by_name) : NULL;
}

const char *st_meta(const SafeTensors *s, const char *key) {
    for (int i = 0; i < s->n_meta; i++)
        if (!strcmp(s->keys[i], key)) return s->values[i];
    return NULL;
}

/* Foreign files may put a tensor at any byte, so elements are copied out, never pointed at. */
#define READ_AS(type, convert)                    \
    for (uint64_t i = 0; i < n; i++) {            \
        type x;                                   \
        memcpy(&x, src + i * sizeof x, sizeof x); \
        dst[i] = convert(x);                      \
    }

bool st_read_f32(const StTensor *t, uint64_t at, uint64_t n, float *dst) {
    uint64_t size = st_dtype_size(t->dtype), count = (t->end - t->begin) / size;
    CHECK(at <= count && n <= count - at, "tensor %s", t->name);
    const uint8_t *src = t->data + at * size;
    switch (t->dtype) {
    case ST_F32: memcpy(dst, src, n * sizeof *dst); return true;
    case ST_F16: READ_AS(uint16_t, f32_from_f16) return true;
    case ST_BF16: READ_AS(uint16_t, f32_from_bf16) return true;
    case ST_F64: READ_AS(double, (float)) return true;
    default: return false;
    }
}

/* ---- writing --------------------------------------------------------------------------------------------- */

struct StWriter {
    Str meta, tensors;    /* the header's JSON so far */
    size_t declared, put; /* bytes of data */
    OutFile f;
};

static void put_json_string(Str *s, const char *text) {
    cJSON *j = cJSON_CreateStringReference(text);
    char *quoted = j ? cJSON_PrintUnformatted(j) : NULL;
    CHECK(quoted, "out of memory");
    str_puts(s, quoted);
    cJSON_free(quoted);
    cJSON_Delete(j);
}

StWriter *st_writer(void) {
    StWriter *w = xcalloc(1, sizeof *w);
    str_puts(&w->meta, "{\"__metadata__\":{\"format\":\"pt\""); /* transformers refuses files without it */
    str_puts(&w->tensors, "}");
    return w;
}

void st_writer_meta(StWriter *w, const char *key, const char *value) {
    str_puts(&w->meta, ",");
    put_json_string(&w->meta, key);
    str_puts(&w->meta, ":");
    put_json_string(&w->meta, value);
}

void st_writer_add(StWriter *w, const char *name, StDtype dtype, int rank, const uint64_t *shape) {
    size_t bytes = st_dtype_size(dtype), begin = w->declared;
    CHECK(!w->f.tmp && rank <= ST_MAX_RANK, "tensor %s", name);
    str_puts(&w->tensors, ",");
    put_json_string(&w->tensors, name);
    str_printf(&w->tensors, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[dtype].name);
    for (int i = 0; i < rank; i++) {
        CHECK(size_mul(bytes, shape[i], &bytes), "tensor %s", name);
        str_printf(&w->tensors, "%s%" PRIu64, i ? "," : "", shape[i]);
    }
    CHECK(size_add(begin, bytes, &w->declared), "tensor %s", name);
    str_printf(&w->tensors, "],\"data_offsets\":[%zu,%zu]}", begin, w->declared);
}

bool st_writer_begin(StWriter *w, const char *path, Err *e) {
    str_puts(&w->meta, w->tensors.p);
    str_puts(&w->meta, "}");
    while (w->meta.n % 8) str_puts(&w->meta, " "); /* so that the data is aligned */
    CHECK(w->meta.n <= MAX_HEADER, "a header of %zu bytes", w->meta.n);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(w->meta.n >> 8 * i);
    if (!file_create(&w->f, path, e)) return false;
    file_put(&w->f, length, sizeof length);
    file_put(&w->f, w->meta.p, w->meta.n);
    return true;
}

void st_writer_put(StWriter *w, const void *bytes, size_t n) {
    w->put += n;
    CHECK(w->f.tmp && w->put <= w->declared, "%zu bytes of %zu", w->put, w->declared);
    file_put(&w->f, bytes, n);
}

bool st_writer_commit(StWriter *w, uint32_t *file_crc, uint64_t *file_bytes, Err *e) {
    CHECK(w->put == w->declared, "%zu bytes of %zu", w->put, w->declared);
    *file_crc = w->f.crc;
    *file_bytes = w->f.n;
    bool ok = file_commit(&w->f, e);
    st_writer_abandon(w);
    return ok;
}

void st_writer_abandon(StWriter *w) {
    file_abandon(&w->f);
    str_free(&w->meta);
    str_free(&w->tensors);
    free(w);
}

/* ---- number formats -------------------------------------------------------------------------------------- */

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint16_t bf16_from_f32(float x) {
    uint32_t u = bits_of(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* NaN: stay one, quiet */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f32_from_bf16(uint16_t x) {
    return float_of((uint32_t)x << 16);
}

uint16_t f16_from_f32(float x) {
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, h;
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        h = 0x7e00 | (u >> 13 & 0x1ff); /* NaN: stay one, quiet */
    else if (u >= 0x477ff000)
        h = 0x7c00; /* 65520 and more round to infinity */
    else if (u < 0x38800000)
        h = bits_of(float_of(u) + 0.5f) & 0xfff; /* subnormal: see below */
    else
        h = (u - (112u << 23) + 0xfff + (u >> 13 & 1)) >> 13; /* exponent bias 127 to 15 */
    return (uint16_t)(sign | h);
}

float f32_from_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x >> 10 & 31, mantissa = x & 0x3ff;
    if (exponent == 0) return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
    return float_of(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13);
}
