/* keys.c - floor 1: see keys.h. */
#include "keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *field(const void *base, const Key *k) {
    return (char *)base + k->at;
}

void keys_defaults(const Keys *t, void *base) {
    for (const Key *k = t->at; k < t->at + t->n; k++) {
        void *p = field(base, k);
        switch (k->kind) {
        case K_NAMES:
        case K_TEXT: snprintf(p, k->size, "%s", k->text); break;
        case K_CHOICE: snprintf(p, k->size, "%.*s", (int)strcspn(k->text, "|"), k->text); break;
        case K_INT: *(int64_t *)p = (int64_t)k->value; break;
        case K_PAIR:
        case K_FLOAT: *(double *)p = k->value; break;
        case K_BOOL: *(bool *)p = k->value != 0; break;
        case K_SOURCES: break;
        }
    }
}

/* ---- values ---------------------------------------------------------------------------------------------- */

/* Is `word` one of the |-separated choices? */
static bool has_choice(const char *all, const char *word) {
    size_t n = strlen(word);
    for (const char *p = all; n; p++) {
        size_t len = strcspn(p, "|");
        if (len == n && !memcmp(p, word, n)) return true;
        p += len;
        if (!*p) break;
    }
    return false;
}

static const char *json_kind(const cJSON *v) {
    return cJSON_IsString(v)   ? "a text"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsBool(v)   ? "true or false"
           : cJSON_IsArray(v)  ? "a list"
           : cJSON_IsNull(v)   ? "null"
                               : "an object";
}

static bool wrong_type(const char *where, const Key *k, const cJSON *v, const char *wanted, Err *e) {
    return err_usage(e, "%s: %s is %s; it must be %s", where, k->path, json_kind(v), wanted);
}

static bool out_of_range(const char *where, const Key *k, double given, Err *e) {
    return err_usage(e, "%s: %s is %.17g; it must be %s from %.15g to %.15g", where, k->path, given,
                     k->kind == K_INT ? "a whole number" : "a number", k->min, k->max);
}

static bool read_number(const char *where, const Key *k, const cJSON *v, double *out, Err *e) {
    if (!cJSON_IsNumber(v)) return wrong_type(where, k, v, "a number", e);
    *out = v->valuedouble;
    bool whole = k->kind != K_INT || *out == floor(*out);
    return (whole && *out >= k->min && *out <= k->max) || out_of_range(where, k, *out, e);
}

static bool read_text(const char *where, const Key *k, const cJSON *v, char *dst, size_t size, Err *e) {
    if (!cJSON_IsString(v)) return wrong_type(where, k, v, "a text", e);
    if (strlen(v->valuestring) >= size)
        return err_usage(e, "%s: %s is longer than %zu bytes", where, k->path, size - 1);
    strcpy(dst, v->valuestring);
    return true;
}

/* The names of a text with commas; empty ones are none. */
static void add_names(Str *all, const char *names) {
    for (size_t n; *names; names += n + (names[n] == ',')) {
        n = strcspn(names, ",");
        if (n) str_printf(all, "%s%.*s", all->n ? "," : "", (int)n, names);
    }
}

/* A list of names, or a text with commas. */
static bool read_names(const char *where, const Key *k, const cJSON *v, char *dst, Err *e) {
    Str all = {0};
    const cJSON *list = cJSON_IsArray(v) ? v->child : v;
    for (const cJSON *it = list; it; it = list == v ? NULL : it->next) {
        if (!cJSON_IsString(it)) return str_free(&all), wrong_type(where, k, it, "a list of texts", e);
        add_names(&all, it->valuestring);
    }
    bool fits = all.n < k->size;
    if (fits) snprintf(dst, k->size, "%s", all.n ? all.p : "");
    str_free(&all);
    return fits || err_usage(e, "%s: %s is longer than %zu bytes", where, k->path, k->size - 1);
}

static bool read_source(const char *where, const Key *k, const cJSON *v, DataSource *s, Err *e) {
    const Key weight = {k->path, K_FLOAT, 0, 0, 1, 1e-9, 1e9, NULL, NULL, false},
              epochs = {k->path, K_FLOAT, 0, 0, 0, 0, 1e9, NULL, NULL, false};
    *s = (DataSource){.weight = 1};
    if (cJSON_IsString(v) && !read_text(where, k, v, s->path, sizeof s->path, e)) return false;
    if (!cJSON_IsString(v) && !cJSON_IsObject(v))
        return wrong_type(where, k, v, "a list of {\"path\": ..., \"weight\": ...}", e);
    for (const cJSON *it = v->child; it; it = it->next) {
        bool ok;
        if (!strcmp(it->string, "path"))
            ok = read_text(where, k, it, s->path, sizeof s->path, e);
        else if (!strcmp(it->string, "weight"))
            ok = read_number(where, &weight, it, &s->weight, e);
        else if (!strcmp(it->string, "name"))
            ok = read_text(where, k, it, s->name, sizeof s->name, e);
        else if (!strcmp(it->string, "val"))
            ok = read_text(where, k, it, s->val, sizeof s->val, e);
        else if (!strcmp(it->string, "epochs"))
            ok = read_number(where, &epochs, it, &s->epochs, e);
        else
            return err_usage(e, "%s: %s has no key \"%s\"; it has path, weight, name, val and epochs", where,
                             k->path, it->string);
        if (!ok) return false;
    }
    return *s->path || err_usage(e, "%s: %s: an entry has no path", where, k->path);
}

static bool read_sources(const char *where, const Key *k, const cJSON *v, DataSources *s, Err *e) {
    s->n = 0;
    if (cJSON_IsString(v) && !*v->valuestring) return true; /* none */
    if (!cJSON_IsArray(v)) {                                /* one source, without the list */
        s->n = 1;
        return read_source(where, k, v, &s->at[0], e);
    }
    for (const cJSON *it = v->child; it; it = it->next) {
        if (s->n == KEYS_SOURCES)
            return err_usage(e, "%s: %s has more than %d entries", where, k->path, KEYS_SOURCES);
        if (!read_source(where, k, it, &s->at[s->n++], e)) return false;
    }
    return true;
}

static bool read_pair(const char *where, const Key *k, const cJSON *v, double *pair, Err *e) {
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2)
        return wrong_type(where, k, v, "a list of two numbers", e);
    return read_number(where, k, v->child, &pair[0], e) && read_number(where, k, v->child->next, &pair[1], e);
}

bool key_read(const Key *k, void *base, const char *where, const cJSON *v, Err *e) {
    void *p = field(base, k);
    double x;
    if (cJSON_IsNull(v) && k->or_null) {
        if (k->kind == K_INT)
            *(int64_t *)p = (int64_t)k->value;
        else
            *(double *)p = NAN;
        return true;
    }
    switch (k->kind) {
    case K_TEXT: return read_text(where, k, v, p, k->size, e);
    case K_CHOICE:
        if (!cJSON_IsString(v)) return wrong_type(where, k, v, k->text, e);
        if (!has_choice(k->text, v->valuestring))
            return err_usage(e, "%s: %s is \"%s\"; it must be one of %s", where, k->path, v->valuestring,
                             k->text);
        return read_text(where, k, v, p, k->size, e);
    case K_INT:
        if (!read_number(where, k, v, &x, e)) return false;
        *(int64_t *)p = (int64_t)x;
        return true;
    case K_FLOAT: return read_number(where, k, v, p, e);
    case K_BOOL:
        if (!cJSON_IsBool(v)) return wrong_type(where, k, v, "true or false", e);
        *(bool *)p = cJSON_IsTrue(v);
        return true;
    case K_PAIR: return read_pair(where, k, v, p, e);
    case K_SOURCES: return read_sources(where, k, v, p, e);
    case K_NAMES: return read_names(where, k, v, p, e);
    }
    return false;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

/* Edit distance (Levenshtein), for "did you mean". Words of up to 63 letters. */
static int distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n > 63 || strlen(a) > 63) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const Key *keys_find(const Keys *t, const char *path) {
    for (const Key *k = t->at; k < t->at + t->n; k++)
        if (!strcmp(k->path, path)) return k;
    return NULL;
}

/* The known key that looks most like `path`: its last word counts as well as the whole, so that a key in the wrong
 * section is found too. */
static const char *nearest_key(const Keys *t, const char *path) {
    const char *best = t->at->path, *word = strrchr(path, '.');
    int best_d = 1000;
    word = word ? word + 1 : path;
    for (const Key *k = t->at; k < t->at + t->n; k++) {
        const char *last = strrchr(k->path, '.');
        int d = 2 * distance(path, k->path), d_word = 2 * distance(word, last ? last + 1 : k->path) + 1;
        if (d_word < d) d = d_word;
        if (d < best_d) best_d = d, best = k->path;
    }
    return best;
}

static bool unknown_key(const Keys *t, const char *where, const char *path, Err *e) {
    return err_usage(e, "%s: unknown key \"%s\"; did you mean \"%s\"? (%s lists all)", where, path,
                     nearest_key(t, path), t->list);
}

static bool is_section(const Keys *t, const char *name) {
    size_t n = strlen(name);
    for (const Key *k = t->at; k < t->at + t->n; k++)
        if (!strncmp(k->path, name, n) && k->path[n] == '.') return true;
    return false;
}

static bool read_object(const Keys *t, void *base, const char *where, const char *section,
                        const cJSON *object, Err *e) {
    for (const cJSON *it = object->child; it; it = it->next) {
        char path[128];
        snprintf(path, sizeof path, "%s%s%.60s", section, *section ? "." : "", it->string);
        for (const cJSON *twin = object->child; twin != it; twin = twin->next)
            if (!strcmp(twin->string, it->string)) return err_usage(e, "%s: %s is given twice", where, path);
        const Key *k = keys_find(t, path);
        if (!*section && is_section(t, it->string)) {
            if (!cJSON_IsObject(it))
                return err_usage(e, "%s: %s is %s; it must be an object", where, path, json_kind(it));
            if (!read_object(t, base, where, it->string, it, e)) return false;
        } else if (!k) {
            return unknown_key(t, where, path, e);
        } else if (!key_read(k, base, where, it, e)) {
            return false;
        }
    }
    return true;
}

/* The place of a JSON error as a line number. */
static int line_of(const char *text, const char *at) {
    int line = 1;
    for (const char *p = text; at && p < at; p++) line += *p == '\n';
    return line;
}

cJSON *keys_parse(const char *path, const char *text, size_t n, Err *e) {
    const char *end = NULL;
    if (memchr(text, 0, n)) return err_usage(e, "%s: is not JSON: it holds a zero byte", path), NULL;
    if (!utf8_valid(text, n)) return err_usage(e, "%s: is not JSON: it is not valid UTF-8", path), NULL;
    cJSON *root = cJSON_ParseWithOpts(text, &end, true);
    if (!root) return err_usage(e, "%s: is not valid JSON: look at line %d", path, line_of(text, end)), NULL;
    if (cJSON_IsObject(root)) return root;
    cJSON_Delete(root);
    return err_usage(e, "%s: must hold one JSON object", path), NULL;
}

bool keys_read(const Keys *t, void *base, const char *path, Err *e) {
    char *text;
    size_t n;
    if (!file_read(path, 1 << 20, &text, &n, e)) {
        e->code = EXIT_USAGE; /* a config that cannot be read is a config error */
        return false;
    }
    cJSON *root = keys_parse(path, text, n, e);
    bool ok = root && read_object(t, base, path, "", root, e);
    cJSON_Delete(root);
    free(text);
    return ok;
}

bool keys_set(const Keys *t, void *base, const char *assignment, Err *e) {
    char path[128];
    const char *eq = strchr(assignment, '=');
    if (!eq || eq == assignment || (size_t)(eq - assignment) >= sizeof path)
        return err_usage(e, "--set %s: write key=value, as in --set train.max_steps=100", assignment);
    if (!utf8_valid(assignment, strlen(assignment)))
        return err_usage(e, "--set: the value of %.*s is not valid UTF-8", (int)(eq - assignment),
                         assignment);
    snprintf(path, sizeof path, "%.*s", (int)(eq - assignment), assignment);
    const Key *k = keys_find(t, path);
    if (!k) return unknown_key(t, "--set", path, e);
    bool text = k->kind == K_TEXT || k->kind == K_CHOICE;
    const char *end = NULL;
    cJSON *v = text ? cJSON_CreateString(eq + 1) : cJSON_ParseWithOpts(eq + 1, &end, true);
    if (!v && (k->kind == K_SOURCES || k->kind == K_NAMES)) v = cJSON_CreateString(eq + 1); /* bare */
    bool ok = v ? key_read(k, base, "--set", v, e)
                : err_usage(e, "--set: %s: cannot read the value \"%s\"", path, eq + 1);
    cJSON_Delete(v);
    return ok;
}

/* ---- printing -------------------------------------------------------------------------------------------- */

void json_text(Str *out, const char *text) {
    cJSON *s = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(s);
    CHECK(quoted);
    str_puts(out, quoted);
    cJSON_free(quoted);
    cJSON_Delete(s);
}

void json_float(Str *out, double x) {
    char b[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(b, sizeof b, "%.*g", digits, x);
        if (strtod(b, NULL) == x) break;
    }
    str_puts(out, b);
}

static void print_names(Str *out, const char *names) {
    str_puts(out, "[");
    for (size_t n; *names; names += n + (names[n] == ',')) {
        char name[KEYS_TEXT];
        n = strcspn(names, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        json_text(out, name);
        if (names[n]) str_puts(out, ", ");
    }
    str_puts(out, "]");
}

static void print_sources(Str *out, const DataSources *s) {
    str_puts(out, "[");
    for (int i = 0; i < s->n; i++) {
        str_puts(out, i ? ", {\"path\": " : "{\"path\": ");
        json_text(out, s->at[i].path);
        str_puts(out, ", \"weight\": ");
        json_float(out, s->at[i].weight);
        if (*s->at[i].name) str_puts(out, ", \"name\": "), json_text(out, s->at[i].name);
        if (*s->at[i].val) str_puts(out, ", \"val\": "), json_text(out, s->at[i].val);
        if (s->at[i].epochs > 0) str_puts(out, ", \"epochs\": "), json_float(out, s->at[i].epochs);
        str_puts(out, "}");
    }
    str_puts(out, "]");
}

void key_print(const Key *k, const void *base, Str *out) {
    const void *p = field(base, k);
    const double *x = p;
    switch (k->kind) {
    case K_TEXT:
    case K_CHOICE: json_text(out, p); break;
    case K_INT: str_printf(out, "%lld", (long long)*(const int64_t *)p); break;
    case K_FLOAT:
        if (isnan(*x))
            str_puts(out, "null");
        else
            json_float(out, *x);
        break;
    case K_BOOL: str_puts(out, *(const bool *)p ? "true" : "false"); break;
    case K_PAIR:
        str_puts(out, "[");
        json_float(out, x[0]);
        str_puts(out, ", ");
        json_float(out, x[1]);
        str_puts(out, "]");
        break;
    case K_SOURCES: print_sources(out, p); break;
    case K_NAMES: print_names(out, p); break;
    }
}

/* Length of the section's name in a key's path; 0 at the top. */
static int section_length(const Key *k) {
    const char *dot = strchr(k->path, '.');
    return dot ? (int)(dot - k->path) : 0;
}

/* Do the table's rows i and i + 1 stand in one section? Rows beyond the table stand in none. */
static bool same_section(const Keys *t, int i) {
    if (i < 0 || i + 1 >= t->n) return false;
    int n = section_length(&t->at[i]);
    return n == section_length(&t->at[i + 1]) && !strncmp(t->at[i].path, t->at[i + 1].path, (size_t)n);
}

void keys_print(const Keys *t, const void *base, Str *json) {
    str_puts(json, "{\n");
    for (int i = 0; i < t->n; i++) {
        const Key *k = &t->at[i];
        int n = section_length(k);
        if (n && !same_section(t, i - 1)) str_printf(json, "  \"%.*s\": {\n", n, k->path);
        str_printf(json, "%s\"%s\": ", n ? "    " : "  ", n ? k->path + n + 1 : k->path);
        key_print(k, base, json);
        if (n && !same_section(t, i)) str_puts(json, "\n  }");
        str_puts(json, i + 1 < t->n ? ",\n" : "\n");
    }
    str_puts(json, "}\n");
}

void keys_help(const Keys *t, const void *base, Str *text) {
    for (int i = 0; i < t->n; i++) {
        const Key *k = &t->at[i];
        Str value = {0};
        key_print(k, base, &value);
        str_printf(text, "%s%-42s %-12s %s", i && !same_section(t, i - 1) ? "\n" : "", k->path, value.p,
                   k->help);
        if (k->kind == K_CHOICE && strchr(k->text, '|')) str_printf(text, " (%s)", k->text);
        if (k->kind == K_INT || k->kind == K_FLOAT) str_printf(text, " (%.15g to %.15g)", k->min, k->max);
        str_puts(text, "\n");
        str_free(&value);
    }
}
