/* keys.h - floor 1: a struct whose fields are described by a table. Each row is a key of a JSON file: its path, type,
 * place in the struct, default, range and a line of help; reading, validation, printing and help come from it. */
#ifndef GPT_KEYS_H
#define GPT_KEYS_H

#include "util.h"

#include <cjson/cJSON.h>

enum { KEYS_TEXT = 512, KEYS_SOURCES = 32 };

typedef struct DataSource {
    char path[KEYS_TEXT];
    double weight;
    /* Of a mixture: its name (empty: the path), its held-out shards (empty: none), how often it may be read. */
    char name[64], val[KEYS_TEXT];
    double epochs; /* 0: without end */
} DataSource;
typedef struct DataSources {
    DataSource at[KEYS_SOURCES];
    int n;
} DataSources;

/* The C types of the fields: char[], char[], int64_t, double, bool, double[2], DataSources, char[] (names, a comma between two). */
typedef enum { K_TEXT, K_CHOICE, K_INT, K_FLOAT, K_BOOL, K_PAIR, K_SOURCES, K_NAMES } Kind;

typedef struct Key {
    const char *path; /* "section.key", or "key" at the top */
    Kind kind;
    size_t at, size;  /* within the struct; size of a text's buffer */
    double value;     /* default of a number or bool, and of a pair's first half */
    double min, max;  /* inclusive */
    const char *text; /* default of a text; choices of a choice, the default first: "gpt2|openai-gpt" */
    const char *help;
    bool or_null; /* null may be given: the default of a K_INT, NAN of a K_FLOAT */
} Key;

/* Rows of such a table, for a field of struct S. */
#define KEY_AT(S, field) offsetof(S, field), sizeof(((S *)0)->field)
#define KEY_TEXT(S, path, field, v, help) \
    { path, K_TEXT, KEY_AT(S, field), 0, 0, 0, v, help, false }
#define KEY_CHOICE(S, path, field, all, help) \
    { path, K_CHOICE, KEY_AT(S, field), 0, 0, 0, all, help, false }
#define KEY_NAMES(S, path, field, v, help) \
    { path, K_NAMES, KEY_AT(S, field), 0, 0, 0, v, help, false }
#define KEY_INT(S, path, field, v, lo, hi, help) \
    { path, K_INT, KEY_AT(S, field), v, lo, hi, NULL, help, false }
#define KEY_FLOAT(S, path, field, v, lo, hi, help) \
    { path, K_FLOAT, KEY_AT(S, field), v, lo, hi, NULL, help, false }
#define KEY_BOOL(S, path, field, v, help) \
    { path, K_BOOL, KEY_AT(S, field), v, 0, 1, NULL, help, false }

typedef struct Keys {
    const Key *at;
    int n;
    const char *list; /* the command that lists them: "gpt help config" */
} Keys;

void keys_defaults(const Keys *t, void *base); /* base is zeroed; a pair's second half and sources stay so */
/* Read a JSON file over what is there. Unknown keys (with the nearest known one), wrong types, values out of range:
 * one line naming file and key, exit code 2. */
bool keys_read(const Keys *t, void *base, const char *path, Err *e);
bool keys_set(const Keys *t, void *base, const char *assignment, Err *e); /* "train.max_steps=100" */
void keys_print(const Keys *t, const void *base, Str *json);              /* every key, floats in full */
void keys_help(const Keys *t, const void *base, Str *text);               /* base: the defaults */

/* One key of it. `where` begins the errors: a file, or "--set". */
const Key *keys_find(const Keys *t, const char *path);
bool key_read(const Key *k, void *base, const char *where, const cJSON *v, Err *e);
void key_print(const Key *k, const void *base, Str *json);
/* For the caller to cJSON_Delete(); NULL if the text is not one JSON object. */
cJSON *keys_parse(const char *path, const char *text, size_t n, Err *e);
void json_text(Str *out, const char *text); /* in quotes */
void json_float(Str *out, double x);        /* the shortest decimal that reads back as the same double */
#endif
