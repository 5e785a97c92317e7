/* checkpoint.c - floor 4: see checkpoint.h. Everything walks the model's parameter table. Tensors go to and come
 * from disk in blocks, so no second copy of the weights is ever in memory. */
#include "checkpoint.h"

#include "llmc.h"
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { JSON_MAX = 16 << 20, TOKENIZER_MAX = 1 << 28, BLOCK = 1 << 18 /* floats */ };

static const char WEIGHTS[] = "model.safetensors", INDEX[] = "model.safetensors.index.json",
                  CONFIG[] = "config.json", MANIFEST[] = "manifest.json", MOMENTS[] = "optimizer.safetensors",
                  STATE[] = "state.json";

static const char *const tokenizer_files[] = {
    "tokenizer.json",    "vocab.json",
    "merges.txt",        "encoder.json",
    "vocab.bpe",         "tokenizer_config.json",
    "added_tokens.json", "special_tokens_map.json",
};
enum { N_TOKENIZER_FILES = sizeof tokenizer_files / sizeof *tokenizer_files };

static bool file_in(const char *dir, const char *name) {
    char *path = path_join(dir, name);
    bool there = path_exists(path);
    free(path);
    return there;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

/* The folder a file stands in. malloc'd. */
static char *folder_of(const char *file) {
    const char *slash = strrchr(file, '/');
    if (!slash) return xstrdup(".");
    Str s = {0};
    str_put(&s, file, slash == file ? 1 : (size_t)(slash - file));
    return s.p;
}

/* One JSON object out of a file of a folder; NULL and an error that names the file. */
static cJSON *read_json(const char *dir, const char *name, Err *e) {
    char *path = path_join(dir, name), *text = NULL;
    size_t n;
    cJSON *j = NULL;
    if (file_read(path, JSON_MAX, &text, &n, e)) {
        if (!memchr(text, 0, n)) j = cJSON_ParseWithOpts(text, NULL, true);
        if (!cJSON_IsObject(j)) {
            err_set(e, "%s: is not a JSON object; truncated or damaged", path);
            cJSON_Delete(j);
            j = NULL;
        }
    }
    free(text);
    free(path);
    return j;
}

/* ---- named values ---------------------------------------------------------------------------------------- */

static NamedValue *state_find(const TrainState *s, const char *key) {
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->at[i].key, key)) return &s->at[i];
    return NULL;
}

void state_set(TrainState *s, const char *key, double value) {
    NamedValue *v = state_find(s, key);
    if (!v) {
        CHECK(strlen(key) < sizeof v->key && !strpbrk(key, "\"\\"), "key %s", key);
        s->at = xrealloc(s->at, (size_t)(s->n + 1) * sizeof *s->at);
        v = &s->at[s->n++];
        strcpy(v->key, key);
    }
    v->value = value;
}

double state_get(const TrainState *s, const char *key, double otherwise) {
    const NamedValue *v = state_find(s, key);
    return v ? v->value : otherwise;
}

void state_free(TrainState *s) {
    free(s->at);
    *s = (TrainState){0};
}

/* JSON has no infinities: what is not finite goes into quotes. 17 digits read back as the same double. */
static void state_print(const TrainState *s, Str *json) {
    str_puts(json, "{");
    for (int i = 0; i < s->n; i++) {
        const char *quote = isfinite(s->at[i].value) ? "" : "\"";
        str_printf(json, "%s\n  \"%s\": %s%.17g%s", i ? "," : "", s->at[i].key, quote, s->at[i].value, quote);
    }
    str_puts(json, "\n}\n");
}

/* Adds every value of state.json, known to this program or not, so that the next save carries it on. */
static bool state_read(TrainState *s, const char *dir, Err *e) {
    cJSON *root = read_json(dir, STATE, e);
    bool ok = root != NULL;
    for (const cJSON *it = root ? root->child : NULL; it && ok; it = it->next) {
        double x = it->valuedouble;
        char *end = NULL;
        if (cJSON_IsString(it)) x = strtod(it->valuestring, &end);
        if ((!cJSON_IsNumber(it) && (!end || end == it->valuestring || *end)) ||
            strlen(it->string) >= sizeof s->at->key || strpbrk(it->string, "\"\\"))
            ok = err_set(e, "%s/%s: \"%.60s\" is not a named number", dir, STATE, it->string);
        else
            state_set(s, it->string, x);
    }
    cJSON_Delete(root);
    return ok;
}

/* ---- manifests ------------------------------------------------------------------------------------------- */

/* Does a file have the size and, if asked for, the crc32 that the manifest's entry gives? Messages name the file
 * without its folder: the folder is the subject of the sentence they become part of. */
static bool check_entry(const char *dir, const cJSON *entry, bool contents, Err *e) {
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(entry, "bytes");
    const cJSON *crc = cJSON_GetObjectItemCaseSensitive(entry, "crc32");
    const char *name = entry->string;
    struct stat st;
    if (strchr(name, '/') || !cJSON_IsNumber(bytes) || !cJSON_IsString(crc))
        return err_set(e, "%s: its entry \"%.60s\" makes no sense", MANIFEST, name);
    char *path = path_join(dir, name), hex[9];
    Map map = {0};
    bool ok = stat(path, &st) == 0 || err_set(e, "%s: %s", name, strerror(errno));
    if (ok && (double)st.st_size != bytes->valuedouble)
        ok = err_set(e, "%s: %lld bytes instead of %.0f", name, (long long)st.st_size, bytes->valuedouble);
    if (ok && contents && st.st_size > 0) {
        ok = map_open(&map, path, e);
        snprintf(hex, sizeof hex, "%08" PRIx32, crc32_of(0, map.p, map.n));
        if (ok && strcmp(hex, crc->valuestring)) ok = err_set(e, "%s: crc32 mismatch", name);
        map_close(&map);
    }
    free(path);
    return ok;
}

/* How much of a manifest's promises to check. MODEL: the contents of the files that hold the model, no others. */
typedef enum { CHECK_SIZES, CHECK_MODEL, CHECK_ALL } Depth;

static bool check_manifest(const char *dir, Depth depth, Err *e) {
    if (!file_in(dir, MANIFEST)) return err_set(e, "%s is missing", MANIFEST);
    Err why = {0};
    cJSON *root = read_json(dir, MANIFEST, &why);
    const cJSON *files = root ? cJSON_GetObjectItemCaseSensitive(root, "files") : NULL;
    bool ok = root || err_set(e, "%s is not a JSON object", MANIFEST);
    const char *const needed[] = {CONFIG, WEIGHTS};
    for (int i = 0; ok && i < 2; i++)
        if (!cJSON_GetObjectItemCaseSensitive(files, needed[i]))
            ok = err_set(e, "%s does not list %s", MANIFEST, needed[i]);
    for (const cJSON *it = ok ? files->child : NULL; it && ok; it = it->next) {
        bool model = !strcmp(it->string, CONFIG) || !strcmp(it->string, WEIGHTS);
        if (depth != CHECK_MODEL || model) ok = check_entry(dir, it, depth != CHECK_SIZES, e);
    }
    cJSON_Delete(root);
    return ok;
}

/* A model folder that this program wrote must be as it wrote it. Foreign folders have no manifest. */
static bool check_model_files(const char *dir, Err *e) {
    Err why = {0};
    if (!file_in(dir, MANIFEST) || check_manifest(dir, CHECK_MODEL, &why)) return true;
    return err_set(e, "%s/%s; the folder is damaged, or was changed by hand (then remove its %s)", dir,
                   why.msg, MANIFEST);
}

/* ---- a run's folder -------------------------------------------------------------------------------------- */

static const char CHECKPOINTS[] = "checkpoints", LATEST[] = "latest";

/* RUN/checkpoints/step-00001000; its last word alone if run is NULL. malloc'd. */
static char *step_path(const char *run, int64_t step) {
    Str s = {0};
    if (run) str_printf(&s, "%s/%s/", run, CHECKPOINTS);
    str_printf(&s, "step-%08" PRId64, step);
    return s.p;
}

/* The number in "step-00001000"; -1 for anything else, such as the leftover of a killed save. */
static int64_t step_of(const char *name) {
    if (strncmp(name, "step-", 5) || strspn(name + 5, "0123456789") != strlen(name + 5)) return -1;
    return strlen(name) > 5 && strlen(name) < 24 ? strtoll(name + 5, NULL, 10) : -1;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of all checkpoint folders, whatever their state. malloc'd; none if there is no such folder. */
static bool list_steps(const char *run, int64_t **steps, int *n, Err *e) {
    char *dir = path_join(run, CHECKPOINTS), **names = NULL;
    int all = 0;
    *steps = NULL;
    *n = 0;
    bool ok = !path_exists(dir) || dir_list(dir, &names, &all, e);
    if (all) *steps = xmalloc((size_t)all * sizeof **steps);
    for (int i = 0; i < all; i++)
        if (step_of(names[i]) >= 0) (*steps)[(*n)++] = step_of(names[i]);
    if (*n) qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
    names_free(names, all);
    free(dir);
    return ok;
}

/* Goes by the step numbers, not by `latest`: a save may have been killed between the two. */
static bool newest(const char *run, Depth depth, char **dir, int64_t *step, Err *e) {
    int64_t *steps;
    int n;
    Str damaged = {0};
    *dir = NULL;
    if (!list_steps(run, &steps, &n, e)) return false;
    for (int i = 0; i < n && !*dir; i++) {
        char *path = step_path(run, steps[i]), *name = step_path(NULL, steps[i]);
        Err why = {0};
        *step = steps[i];
        if (check_manifest(path, depth, &why))
            *dir = xstrdup(path);
        else
            str_printf(&damaged, "%s%s is damaged (%s)", damaged.n ? ", " : "", name, why.msg);
        if (*dir && damaged.n) note("checkpoint %s; falling back to %s", damaged.p, name);
        free(path);
        free(name);
    }
    if (!*dir && damaged.n) note("checkpoint %s; there is no other", damaged.p);
    str_free(&damaged);
    free(steps);
    return true;
}

bool checkpoint_newest(const char *run, char **dir, int64_t *step, Err *e) {
    return newest(run, CHECK_ALL, dir, step, e);
}

/* The checkpoint to use a run's model from: the one that `latest` names, or the newest. */
static bool find_in_run(const char *run, char **found, Err *e) {
    char *path = path_join(run, LATEST), *name = NULL;
    size_t n;
    int64_t step = -1;
    Err unread = {0};
    if (file_read(path, 256, &name, &n, &unread)) {
        name[strcspn(name, "\n")] = 0;
        const char *word = strrchr(name, '/');
        step = step_of(word ? word + 1 : name);
    }
    *found = step >= 0 ? step_path(run, step) : NULL;
    free(path);
    free(name);
    if (*found && check_manifest(*found, CHECK_SIZES, &unread)) return true;
    free(*found);
    return newest(run, CHECK_SIZES, found, &step, e) &&
           (*found || err_set(e, "%s: this run has no complete checkpoint yet", run));
}

/* ---- folders that appear whole or not at all ------------------------------------------------------------- */

/* Filled under PATH.tmp; the manifest grows with each file and is written last. */
typedef struct Folder {
    char *path, *tmp;
    Str manifest;
} Folder;

static bool folder_begin(Folder *f, const char *path, Err *e) {
    Str s = {0};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    str_put(&s, path, n);
    f->path = xstrdup(s.p);
    str_puts(&s, ".tmp");
    f->tmp = s.p;
    str_puts(&f->manifest, "{\"files\": {");
    return dir_remove(f->tmp, e) && dir_make(f->tmp, e);
}

static void folder_list(Folder *f, const char *name, uint64_t bytes, uint32_t crc) {
    str_printf(&f->manifest, "%s\n  \"%s\": {\"bytes\": %" PRIu64 ", \"crc32\": \"%08" PRIx32 "\"}",
               f->manifest.p[f->manifest.n - 1] == '{' ? "" : ",", name, bytes, crc);
}

static bool folder_put(Folder *f, const char *name, const void *bytes, size_t n, Err *e) {
    char *path = path_join(f->tmp, name);
    bool ok = file_write(path, bytes, n, e);
    folder_list(f, name, n, crc32_of(0, bytes, n));
    free(path);
    return ok;
}

static bool folder_copy(Folder *f, const char *from, const char *name, Err *e) {
    char *bytes;
    size_t n;
    bool ok = file_read(from, TOKENIZER_MAX, &bytes, &n, e) && folder_put(f, name, bytes, n, e);
    free(bytes);
    return ok;
}

static bool sync_parent(const char *path, Err *e) {
    char *parent = folder_of(path);
    bool ok = dir_sync(parent, e);
    free(parent);
    return ok;
}

/* Put the finished folder in its place. One of the same name is swapped out in a single step, so that there is no
 * moment without either; file systems that cannot swap (NFS, Lustre) have such a moment, between two renames. */
static bool folder_place(const Folder *f, Err *e) {
    if (rename(f->tmp, f->path) == 0) return true;
    if ((errno == EEXIST || errno == ENOTEMPTY) &&
        renameat2(AT_FDCWD, f->tmp, AT_FDCWD, f->path, RENAME_EXCHANGE) == 0)
        return dir_remove(f->tmp, e);
    if (errno != EINVAL && errno != ENOSYS)
        return err_set(e, "%s: cannot rename the finished folder to this: %s", f->path, strerror(errno));
    Str old = {0};
    str_printf(&old, "%s.old.tmp", f->path);
    bool ok = dir_remove(old.p, e) &&
              ((rename(f->path, old.p) == 0 && rename(f->tmp, f->path) == 0) ||
               err_set(e, "%s: cannot replace this folder: %s", f->path, strerror(errno))) &&
              dir_remove(old.p, e);
    str_free(&old);
    return ok;
}

/* Ends the folder either way: `ok` false, or a failure here, removes what was written. */
static bool folder_end(Folder *f, bool ok, Err *e) {
    if (!f->tmp) return false;
    str_puts(&f->manifest, "\n}}\n");
    char *manifest = path_join(f->tmp, MANIFEST);
    ok = ok && file_write(manifest, f->manifest.p, f->manifest.n, e) && folder_place(f, e) &&
         sync_parent(f->path, e);
    if (!ok) dir_remove(f->tmp, &(Err){0});
    free(manifest);
    free(f->path);
    free(f->tmp);
    str_free(&f->manifest);
    return ok;
}

/* One clear line before a long write, instead of a failure in its middle. */
static bool check_room(const char *dir, uint64_t bytes, Err *e) {
    uint64_t have;
    char a[24], b[24];
    if (!disk_free(dir, &have, e)) return false;
    return have >= bytes || err_set(e, "%s: no space left: %s are needed, %s are free", dir,
                                    human_bytes((double)bytes, a), human_bytes((double)have, b));
}

/* ---- tensors to and from files --------------------------------------------------------------------------- */

/* Prefix of the model's tensors in its files. gpt3 has one that transformers does not know: its GPT-2 class must not
 * take a model with banded attention for a dense one. */
static const char *base_prefix(const ModelConfig *c) {
    return !strcmp(c->model_type, "gpt3") ? "gpt3." : "transformer.";
}

/* In files, weights (the set without a prefix) carry the model's prefix, all but the head; moments their own. */
static void tensor_name(char out[128], const ModelConfig *c, const Moment *set, const Param *p) {
    const char *base = strcmp(p->name, "lm_head.weight") ? base_prefix(c) : "";
    snprintf(out, 128, "%s%s%s", *set->prefix ? set->prefix : base, *set->prefix ? "." : "", p->name);
}

static bool folder_put_tensors(Folder *f, const char *name, const Gpt *m, const Moment *sets, int n_sets,
                               Err *e) {
    const Ops *ops = gpt_options(m)->ops;
    char *path = path_join(f->tmp, name), key[128];
    float *block = xmalloc(BLOCK * sizeof *block);
    int n;
    const Param *table = gpt_table(m, &n);
    StWriter *w = st_writer();
    for (int i = 0; i < n_sets * n; i++) {
        const Param *p = &table[i % n];
        const uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
        if (p->at >= sets[i / n].n) continue;
        tensor_name(key, gpt_config(m), &sets[i / n], p);
        st_writer_add(w, key, ST_F32, p->rank, shape);
    }
    bool ok = st_writer_begin(w, path, e);
    for (int i = 0; i < n_sets * n && ok; i++) {
        const Param *p = &table[i % n];
        const Moment *set = &sets[i / n];
        for (int64_t at = 0, k; at < p->count && p->at < set->n; at += k) {
            k = p->count - at < BLOCK ? p->count - at : BLOCK;
            ops->to_host(block, set->at + p->at + at, (size_t)k * sizeof *block);
            st_writer_put(w, block, (size_t)k * sizeof *block);
        }
    }
    uint32_t crc;
    uint64_t bytes;
    if (!ok)
        st_writer_abandon(w);
    else if ((ok = st_writer_commit(w, &crc, &bytes, e)))
        folder_list(f, name, bytes, crc);
    free(block);
    free(path);
    return ok;
}

static const char *shape_text(char out[192], int rank, const uint64_t *shape) {
    int n = snprintf(out, 192, "[");
    for (int i = 0; i < rank; i++)
        n += snprintf(out + n, 192 - (size_t)n, "%s%" PRIu64, i ? ", " : "", shape[i]);
    snprintf(out + n, 192 - (size_t)n, "]");
    return out;
}

/* Checks a tensor against its row of the table and copies it in. The padding of the vocabulary stays zero. */
static bool get_tensor(const StTensor *t, const Param *p, const Ops *ops, float *dst, float *block,
                       const char *where, Err *e) {
    const uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
    char found[192], expected[192];
    if (t->rank != p->rank || memcmp(t->shape, shape, (size_t)p->rank * sizeof *shape))
        return err_set(e, "%s: tensor %s has shape %s; %s is expected", where, t->name,
                       shape_text(found, t->rank, t->shape), shape_text(expected, p->rank, shape));
    for (int64_t at = 0, k; at < p->count; at += k) {
        k = p->count - at < BLOCK ? p->count - at : BLOCK;
        if (!st_read_f32(t, (uint64_t)at, (uint64_t)k, block))
            return err_set(e, "%s: tensor %s does not hold floating-point numbers", where, t->name);
        ops->to_device(dst + p->at + at, block, (size_t)k * sizeof *block);
    }
    return true;
}

/* Tensors of Hugging Face's files that are no parameters: the causal mask that older releases wrote, and a head that
 * is tied to the embedding but written all the same. */
static bool pass_over(const StTensor *t, const StTensor *embedding, const char *where, Err *e) {
    if (ends_with(t->name, ".attn.bias") || ends_with(t->name, ".attn.masked_bias")) return true;
    if (strcmp(t->name, "lm_head.weight"))
        return err_set(e, "%s: tensor %.200s has no place in the model that config.json describes", where,
                       t->name);
    if (t->dtype == embedding->dtype && t->end - t->begin == embedding->end - embedding->begin &&
        !memcmp(t->data, embedding->data, (size_t)(t->end - t->begin)))
        return true;
    return err_set(e,
                   "%s: lm_head.weight differs from the embedding, but config.json ties the two: set "
                   "tie_word_embeddings to false there if the head is meant",
                   where);
}

static bool wrong_moments(const char *where, const char *name, const char *what, Err *e) {
    return err_set(e,
                   "%s: tensor %.200s %s; a run goes on with the model and the optimizer.name it began with",
                   where, name, what);
}

/* Every row of the table must be in the file once, and nothing else. */
static bool get_tensors(const SafeTensors *s, const char *where, const Gpt *m, const Moment *sets, int n_sets,
                        Err *e) {
    int n;
    const Param *table = gpt_table(m, &n);
    const StTensor *embedding = NULL;
    float *block = xmalloc(BLOCK * sizeof *block);
    bool *used = xcalloc((size_t)s->n, sizeof *used), ok = true;
    for (int i = 0; i < n_sets * n && ok; i++) {
        const Param *p = &table[i % n];
        const Moment *set = &sets[i / n];
        char key[128];
        if (p->at >= set->n) continue;
        tensor_name(key, gpt_config(m), set, p);
        const StTensor *t = st_find(s, key);
        if (!t && !*set->prefix) t = st_find(s, p->name);
        if (!t) {
            ok = *set->prefix ? wrong_moments(where, key, "is missing", e)
                              : err_set(e, "%s: tensor %s is missing", where, p->name);
            continue;
        }
        if (p->split == SPLIT_VOCAB) embedding = t;
        used[t - s->tensors] = true;
        ok = get_tensor(t, p, gpt_options(m)->ops, set->at, block, where, e);
    }
    for (int i = 0; i < s->n && ok; i++)
        ok = used[i] || (*sets->prefix ? wrong_moments(where, s->tensors[i].name, "is not expected", e)
                                       : pass_over(&s->tensors[i], embedding, where, e));
    free(used);
    free(block);
    return ok;
}

static bool read_tensors(const char *path, const Gpt *m, const Moment *sets, int n_sets, Err *e) {
    SafeTensors s;
    if (!st_open(&s, path, e)) return false;
    char *where =
        path_is_dir(path) ? path_join(path, file_in(path, WEIGHTS) ? WEIGHTS : INDEX) : xstrdup(path);
    bool ok = get_tensors(&s, where, m, sets, n_sets, e);
    free(where);
    st_close(&s);
    return ok;
}

/* ---- models ---------------------------------------------------------------------------------------------- */

static bool refuse_pickle(const char *path, Err *e) {
    return err_set(
        e,
        "%s: holds PyTorch's pickled weights, which are not read; convert them to safetensors: in Python, "
        "transformers' AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)",
        path);
}

static bool find_in_folder(const char *path, char **found, Err *e) {
    if (file_in(path, WEIGHTS) || file_in(path, INDEX)) return *found = xstrdup(path), true;
    if (file_in(path, CHECKPOINTS)) return find_in_run(path, found, e);
    if (file_in(path, "pytorch_model.bin") || file_in(path, "pytorch_model.bin.index.json"))
        return refuse_pickle(path, e);
    if (file_in(path, CONFIG)) return err_set(e, "%s: has a %s but no %s", path, CONFIG, WEIGHTS);
    return err_set(e, "%s: is not a model folder (%s and %s) and not a run folder (%s)", path, CONFIG,
                   WEIGHTS, CHECKPOINTS);
}

bool model_find(const char *path, char **found, Err *e) {
    *found = NULL;
    if (!path_exists(path)) return err_set(e, "%s: no such model", path);
    if (path_is_dir(path)) return find_in_folder(path, found, e);
    if (strstr(path, "pytorch_model") && ends_with(path, ".bin")) return refuse_pickle(path, e);
    if (!ends_with(path, ".safetensors") && !ends_with(path, ".bin"))
        return err_set(e, "%s: is not a model: a folder, a .safetensors file or an llm.c .bin is needed",
                       path);
    *found = xstrdup(path);
    return true;
}

/* The folder with the config.json and the tokenizer of what model_find found. malloc'd. */
static char *home_of(const char *found) {
    return path_is_dir(found) ? xstrdup(found) : folder_of(found);
}

static bool is_llmc(const char *found) {
    return !path_is_dir(found) && ends_with(found, ".bin");
}

static bool config_of(const char *found, ModelConfig *c, Err *e) {
    if (is_llmc(found)) return llmc_config(found, c, e);
    char *home = home_of(found), *path = path_join(home, CONFIG), *text = NULL;
    size_t n;
    bool ok = file_read(path, JSON_MAX, &text, &n, e) && model_read(c, text, n, path, e);
    free(text);
    free(path);
    free(home);
    return ok;
}

bool model_config_of(const char *path, ModelConfig *c, Err *e) {
    char *found;
    bool ok = model_find(path, &found, e) && config_of(found, c, e);
    free(found);
    return ok;
}

/* Shapes cannot tell everything: a model with another number of heads would load and compute something else. */
static bool same_model(const ModelConfig *want, const ModelConfig *file, const char *path, Err *e) {
    const struct {
        const char *key;
        double want, file;
    } keys[] = {
        {"vocab_size", (double)want->vocab_size, (double)file->vocab_size},
        {"n_positions", (double)want->n_positions, (double)file->n_positions},
        {"n_embd", (double)want->n_embd, (double)file->n_embd},
        {"n_layer", (double)want->n_layer, (double)file->n_layer},
        {"n_head", (double)want->n_head, (double)file->n_head},
        {"n_inner", (double)model_inner(want), (double)model_inner(file)},
        {"layer_norm_epsilon", want->layer_norm_epsilon, file->layer_norm_epsilon},
        {"tie_word_embeddings", want->tie_word_embeddings, file->tie_word_embeddings},
        {"scale_attn_by_inverse_layer_idx", want->scale_attn_by_inverse_layer_idx,
         file->scale_attn_by_inverse_layer_idx},
    };
    if (strcmp(want->model_type, file->model_type))
        return err_set(e, "%s: its model_type is %s; the model to fill is %s", path, file->model_type,
                       want->model_type);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].want != keys[i].file)
            return err_set(e, "%s: its %s is %.15g; the model to fill has %.15g", path, keys[i].key,
                           keys[i].file, keys[i].want);
    if (!strcmp(want->model_type, "gpt3") && want->attention_window != file->attention_window)
        return err_set(e, "%s: its attention_window is %lld; the model to fill has %lld", path,
                       (long long)file->attention_window, (long long)want->attention_window);
    return true;
}

static bool load_weights(Gpt *m, const char *found, Err *e) {
    const Moment weights = {"", gpt_weights(m), gpt_elements(m)};
    ModelConfig c;
    if (!config_of(found, &c, e) || !same_model(gpt_config(m), &c, found, e)) return false;
    return is_llmc(found) ? llmc_load(m, found, e) : read_tensors(found, m, &weights, 1, e);
}

bool model_load(Gpt *m, const char *path, Err *e) {
    char *found;
    bool ok = model_find(path, &found, e);
    ok = ok && (!path_is_dir(found) || check_model_files(found, e)) && load_weights(m, found, e);
    free(found);
    return ok;
}

static bool has_tokenizer(const char *dir) {
    return file_in(dir, "tokenizer.json") || (file_in(dir, "vocab.json") && file_in(dir, "merges.txt")) ||
           (file_in(dir, "encoder.json") && file_in(dir, "vocab.bpe"));
}

char *model_tokenizer(const char *path) {
    char *found, *home = NULL;
    if (model_find(path, &found, &(Err){0})) home = home_of(found);
    free(found);
    if (home && has_tokenizer(home)) return home;
    free(home);
    return NULL;
}

static bool put_tokenizer(Folder *f, const char *dir, Err *e) {
    bool ok = true;
    if (!path_is_dir(dir)) return folder_copy(f, dir, "tokenizer.json", e);
    for (int i = 0; i < N_TOKENIZER_FILES && ok; i++) {
        char *from = path_join(dir, tokenizer_files[i]);
        ok = !path_exists(from) || folder_copy(f, from, tokenizer_files[i], e);
        free(from);
    }
    return ok;
}

static bool put_model(Folder *f, const Gpt *m, const char *tokenizer_dir, Err *e) {
    const Moment weights = {"", gpt_weights((Gpt *)m), gpt_elements(m)};
    Str json = {0};
    model_print(gpt_config(m), &json);
    bool ok = folder_put(f, CONFIG, json.p, json.n, e) &&
              (!tokenizer_dir || put_tokenizer(f, tokenizer_dir, e)) &&
              folder_put_tensors(f, WEIGHTS, m, &weights, 1, e);
    str_free(&json);
    return ok;
}

/* Bytes of a folder with so many sets of tensors; a little too many. */
static uint64_t room_for(const Gpt *m, int n_sets, const char *tokenizer_dir) {
    uint64_t slack = 1 << 20, bytes = (uint64_t)gpt_count(gpt_config(m), true) * sizeof(float);
    struct stat st;
    for (int i = 0; tokenizer_dir && i < N_TOKENIZER_FILES; i++) {
        char *path = path_join(tokenizer_dir, tokenizer_files[i]);
        if (stat(path, &st) == 0) slack += (uint64_t)st.st_size;
        free(path);
    }
    return bytes * (uint64_t)n_sets + slack;
}

bool model_save(const Gpt *m, const char *dir, const char *tokenizer_dir, Err *e) {
    Folder f = {0};
    if (path_exists(dir)) return err_usage(e, "%s: exists already; remove it, or choose another name", dir);
    bool ok = folder_begin(&f, dir, e) && check_room(f.tmp, room_for(m, 1, tokenizer_dir), e) &&
              put_model(&f, m, tokenizer_dir, e);
    return folder_end(&f, ok, e);
}

/* ---- saving and resuming a run --------------------------------------------------------------------------- */

/* What killed saves and killed removals left behind. */
static bool remove_leftovers(const char *dir, Err *e) {
    char **names;
    int n;
    if (!dir_list(dir, &names, &n, e)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        char *path = path_join(dir, names[i]);
        if (ends_with(names[i], ".tmp")) ok = dir_remove(path, e);
        free(path);
    }
    names_free(names, n);
    return ok;
}

/* Takes a checkpoint away: under another name first, so that a half removed one is never taken for a damaged one. */
static void retire(const char *path) {
    Err e = {0};
    Str tmp = {0};
    str_printf(&tmp, "%s.tmp", path);
    if (rename(path, tmp.p) != 0) err_set(&e, "%s: %s", path, strerror(errno));
    if (e.code || !dir_remove(tmp.p, &e)) note("cannot remove an old checkpoint: %s", e.msg);
    str_free(&tmp);
}

/* Removes what is older than the newest `keep` complete ones, counted from `step`, which has just been written.
 * Newer numbers can only be damaged ones that --resume has passed over; those are left to the user. */
static bool prune(const char *run, int64_t step, int64_t keep, Err *e) {
    int64_t *steps, complete = 0;
    int n;
    if (keep == 0) return true;
    if (!list_steps(run, &steps, &n, e)) return false;
    for (int i = 0; i < n; i++) {
        if (steps[i] > step) continue;
        char *path = step_path(run, steps[i]);
        if (complete == keep)
            retire(path);
        else
            complete += check_manifest(path, CHECK_SIZES, &(Err){0});
        free(path);
    }
    free(steps);
    return true;
}

static bool put_latest(const char *run, int64_t step, Err *e) {
    char *path = path_join(run, LATEST), *name = step_path(NULL, step);
    Str text = {0};
    str_printf(&text, "%s/%s\n", CHECKPOINTS, name);
    bool ok = file_write(path, text.p, text.n, e);
    str_free(&text);
    free(name);
    free(path);
    return ok;
}

static bool put_checkpoint(Folder *f, const Gpt *m, const Moment *moments, int n_moments, const TrainState *s,
                           const char *tokenizer_dir, Err *e) {
    Str json = {0};
    state_print(s, &json);
    bool ok = put_model(f, m, tokenizer_dir, e) &&
              (!n_moments || folder_put_tensors(f, MOMENTS, m, moments, n_moments, e)) &&
              folder_put(f, STATE, json.p, json.n, e);
    str_free(&json);
    return ok;
}

bool checkpoint_save(const char *run, int64_t step, const Gpt *m, const Moment *moments, int n_moments,
                     const TrainState *s, const char *tokenizer_dir, int64_t keep, Err *e) {
    Folder f = {0};
    Err why = {0};
    char *dir = path_join(run, CHECKPOINTS), *path = step_path(run, step);
    bool ok = dir_make(dir, &why) && remove_leftovers(dir, &why) && folder_begin(&f, path, &why) &&
              check_room(dir, room_for(m, 1 + n_moments, tokenizer_dir), &why) &&
              put_checkpoint(&f, m, moments, n_moments, s, tokenizer_dir, &why);
    ok =
        folder_end(&f, ok, &why) || err_set(e, "checkpoint of step %" PRId64 " not saved: %s", step, why.msg);
    free(path);
    free(dir);
    return ok && put_latest(run, step, e) && prune(run, step, keep, e);
}

bool checkpoint_load(const char *dir, Gpt *m, const Moment *moments, int n_moments, TrainState *s, Err *e) {
    char *path = path_join(dir, MOMENTS);
    bool ok = load_weights(m, dir, e) && (!n_moments || read_tensors(path, m, moments, n_moments, e)) &&
              state_read(s, dir, e);
    free(path);
    return ok;
}

/* ---- other formats --------------------------------------------------------------------------------------- */

static bool write_llmc(const Gpt *m, const char *out, Err *e) {
    char *dir = folder_of(out);
    bool ok = check_room(dir, room_for(m, 1, NULL), e) && llmc_save(m, out, e);
    free(dir);
    return ok;
}

static bool write_hf(const Gpt *m, const char *from, const char *out, Err *e) {
    char *tokenizer = model_tokenizer(from);
    bool ok = model_save(m, out, tokenizer, e);
    free(tokenizer);
    return ok;
}

bool model_convert(const char *path, const char *to, const char *out, Err *e) {
    ModelConfig c;
    GptOptions o = {.compute = DT_F32, .B = 1, .T = 1};
    if (strcmp(to, "llmc") && strcmp(to, "hf"))
        return err_usage(e, "--to %s: not a format; llmc (llm.c's .bin) and hf (a Hugging Face folder) are",
                         to);
    if (path_exists(out)) return err_usage(e, "%s: exists already; remove it, or choose another name", out);
    o.ops = ops_choose("cpu", e);
    if (!o.ops || !comm_start(e) || !o.ops->start(0, e) || !model_config_of(path, &c, e)) return false;
    Gpt *m = gpt_create(&c, &o, e);
    bool ok = m && model_load(m, path, e) &&
              (!strcmp(to, "llmc") ? write_llmc(m, out, e) : write_hf(m, path, out, e));
    gpt_free(m);
    return ok;
}
