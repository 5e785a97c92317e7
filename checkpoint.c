/* checkpoint.c - floor 4: see checkpoint.h. Folders and the files in them; what tensors hold is tensors.c's. Of many
 * ranks, the first makes the folder and everything in it but the tensors, and puts it in its place. */
#include "checkpoint.h"

#include "llmc.h"
#include "tensors.h"

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

enum { JSON_MAX = 16 << 20, TOKENIZER_MAX = 1 << 28 };

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

/* The whole file's, in pieces, so that others see that this rank lives. */
static uint32_t crc_of_file(const Map *m) {
    const size_t piece = 64 << 20;
    uint32_t crc = 0;
    for (size_t at = 0, k; at < m->n; at += k) {
        k = m->n - at < piece ? m->n - at : piece;
        crc = crc32_of(crc, m->p + at, k);
        comm_alive("verifying a checkpoint");
    }
    return crc;
}

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
        snprintf(hex, sizeof hex, "%08" PRIx32, crc_of_file(&map));
        if (ok && strcmp(hex, crc->valuestring)) ok = err_set(e, "%s: crc32 mismatch", name);
        map_close(&map);
    }
    free(path);
    return ok;
}

/* How much of a manifest's promises to check. MODEL: the contents of the files that hold the model, no others. */
typedef enum { CHECK_SIZES, CHECK_MODEL, CHECK_ALL } Depth;

static bool is_model_file(const char *name) {
    return !strcmp(name, CONFIG) || !strncmp(name, "model", 5);
}

static bool lists_a_model(const cJSON *files, Err *e) {
    if (!cJSON_GetObjectItemCaseSensitive(files, CONFIG))
        return err_set(e, "%s does not list %s", MANIFEST, CONFIG);
    return cJSON_GetObjectItemCaseSensitive(files, WEIGHTS) ||
           cJSON_GetObjectItemCaseSensitive(files, INDEX) ||
           err_set(e, "%s does not list %s", MANIFEST, WEIGHTS);
}

/* Ranks share the files, if there are several, and agree on what they found. */
static bool check_manifest(const char *dir, Depth depth, Comm *comm, Err *e) {
    Err why = {0};
    const Grid g = comm ? *comm_grid(comm) : GRID_OF_ONE;
    const bool there = file_in(dir, MANIFEST);
    cJSON *root = there ? read_json(dir, MANIFEST, &why) : NULL;
    const cJSON *files = root ? cJSON_GetObjectItemCaseSensitive(root, "files") : NULL;
    bool ok = root || err_set(e, there ? "%s is not a JSON object" : "%s is missing", MANIFEST);
    ok = ok && lists_a_model(files, e);
    int i = 0;
    for (const cJSON *it = ok ? files->child : NULL; it && ok; it = it->next)
        if ((depth != CHECK_MODEL || is_model_file(it->string)) && i++ % g.ranks == g.rank)
            ok = check_entry(dir, it, depth != CHECK_SIZES, e);
    cJSON_Delete(root);
    return comm ? comm_agree(comm, ok, e) : ok;
}

/* A model folder that this program wrote must be as it wrote it. Foreign folders have no manifest. */
static bool check_model_files(const char *dir, Comm *comm, Err *e) {
    Err why = {0};
    if (!file_in(dir, MANIFEST) || check_manifest(dir, CHECK_MODEL, comm, &why)) return true;
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

/* The same list on all ranks: a file system may show them different ones while it changes. */
static bool agree_on_steps(Comm *comm, int64_t **steps, int *n, bool ok, Err *e) {
    if (!comm) return ok;
    if (!comm_agree(comm, ok, e)) return false;
    comm_host_broadcast(comm, n, sizeof *n, 0);
    *steps = xrealloc(*steps, (size_t)(*n + 1) * sizeof **steps);
    comm_host_broadcast(comm, *steps, (size_t)*n * sizeof **steps, 0);
    return true;
}

/* Goes by the step numbers, not by `latest`: a save may have been killed between the two. */
static bool newest(const char *run, Depth depth, Comm *comm, char **dir, int64_t *step, Err *e) {
    const bool talks = comm_world_rank() == 0;
    int64_t *steps;
    int n;
    Str damaged = {0};
    *dir = NULL;
    bool ok = list_steps(run, &steps, &n, e);
    ok = agree_on_steps(comm, &steps, &n, ok, e);
    for (int i = 0; i < n && ok && !*dir; i++) {
        char *path = step_path(run, steps[i]), *name = step_path(NULL, steps[i]);
        Err why = {0};
        *step = steps[i];
        if (check_manifest(path, depth, comm, &why))
            *dir = xstrdup(path);
        else
            str_printf(&damaged, "%s%s is damaged (%s)", damaged.n ? ", " : "", name, why.msg);
        if (*dir && damaged.n && talks) note("checkpoint %s; falling back to %s", damaged.p, name);
        free(path);
        free(name);
    }
    if (ok && !*dir && damaged.n && talks) note("checkpoint %s; there is no other", damaged.p);
    str_free(&damaged);
    free(steps);
    return ok;
}

bool checkpoint_newest(const char *run, Comm *comm, char **dir, int64_t *step, Err *e) {
    return newest(run, CHECK_ALL, comm, dir, step, e);
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
    if (*found && check_manifest(*found, CHECK_SIZES, NULL, &unread)) return true;
    free(*found);
    return newest(run, CHECK_SIZES, NULL, found, &step, e) &&
           (*found || err_set(e, "%s: this run has no complete checkpoint yet", run));
}

/* ---- folders that appear whole or not at all ------------------------------------------------------------- */

/* Filled under PATH.tmp; the manifest grows with each file and is written last. All ranks know the names. */
typedef struct Folder {
    char *path, *tmp;
    Str manifest;
} Folder;

static void folder_name(Folder *f, const char *path) {
    Str s = {0};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    str_put(&s, path, n);
    f->path = xstrdup(s.p);
    str_puts(&s, ".tmp");
    f->tmp = s.p;
    str_puts(&f->manifest, "{\"files\": {");
}

static bool folder_begin(const Folder *f, Err *e) {
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
    str_puts(&f->manifest, "\n}}\n");
    char *manifest = path_join(f->tmp, MANIFEST);
    ok = ok && file_write(manifest, f->manifest.p, f->manifest.n, e) && folder_place(f, e) &&
         sync_parent(f->path, e);
    if (!ok) dir_remove(f->tmp, &(Err){0});
    free(manifest);
    return ok;
}

static void folder_free(Folder *f) {
    free(f->path);
    free(f->tmp);
    str_free(&f->manifest);
}

/* One clear line before a long write, instead of a failure in its middle. */
static bool check_room(const char *dir, uint64_t bytes, Err *e) {
    uint64_t have;
    char a[24], b[24];
    if (!disk_free(dir, &have, e)) return false;
    return have >= bytes || err_set(e, "%s: no space left: %s are needed, %s are free", dir,
                                    human_bytes((double)bytes, a), human_bytes((double)have, b));
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

static bool open_model_file(ModelFile *s, const char *found, const ModelConfig *c, Err *e) {
    return is_llmc(found) ? llmc_open(s, found, e) : weights_open(s, found, c, e);
}

static bool load_weights(Gpt *m, const char *found, Err *e) {
    ModelConfig c;
    ModelFile s;
    if (!config_of(found, &c, e) || !same_model(gpt_config(m), &c, found, e) ||
        !open_model_file(&s, found, &c, e))
        return false;
    weights_load(m, &s);
    s.close(&s);
    return true;
}

bool model_load(Gpt *m, const char *path, Err *e) {
    char *found;
    bool ok = ranks_agree(m, model_find(path, &found, e), e);
    ok = ok && (!path_is_dir(found) || check_model_files(found, gpt_options(m)->comm, e)) &&
         load_weights(m, found, e);
    free(found);
    return ranks_agree(m, ok, e);
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

static bool is_first(const Gpt *m) {
    return grid_is_root(&gpt_options(m)->grid);
}

/* All ranks. Ends with an agreement, as put_model does. */
static bool put_tensors(Folder *f, const Gpt *m, const char *base, const Moment *sets, int n_sets, bool ok,
                        Err *e) {
    SavedFile *files;
    int n;
    ok = tensors_save(m, f->tmp, base, sets, n_sets, ok, &files, &n, e);
    for (int i = 0; i < n && ok; i++) folder_list(f, files[i].name, files[i].bytes, files[i].crc);
    free(files);
    return ok;
}

static bool put_config(Folder *f, const ModelConfig *c, const char *tokenizer_dir, Err *e) {
    Str json = {0};
    model_print(c, &json);
    bool ok =
        folder_put(f, CONFIG, json.p, json.n, e) && (!tokenizer_dir || put_tokenizer(f, tokenizer_dir, e));
    str_free(&json);
    return ok;
}

static bool put_model(Folder *f, const Gpt *m, const char *tokenizer_dir, Err *e) {
    const Moment weights = {"", gpt_weights((Gpt *)m), gpt_elements(m)};
    bool ok = !is_first(m) || put_config(f, gpt_config(m), tokenizer_dir, e);
    return put_tensors(f, m, "model", &weights, 1, ok, e);
}

/* Bytes of a folder with so many sets of tensors; a little too many. */
static uint64_t room_for(const ModelConfig *c, int n_sets, const char *tokenizer_dir) {
    uint64_t slack = 1 << 20, bytes = (uint64_t)gpt_count(c, true) * sizeof(float);
    struct stat st;
    for (int i = 0; tokenizer_dir && i < N_TOKENIZER_FILES; i++) {
        char *path = path_join(tokenizer_dir, tokenizer_files[i]);
        if (stat(path, &st) == 0) slack += (uint64_t)st.st_size;
        free(path);
    }
    return bytes * (uint64_t)n_sets + slack;
}

static bool begin_model(const Folder *f, const Gpt *m, const char *tokenizer_dir, Err *e) {
    if (path_exists(f->path))
        return err_usage(e, "%s: exists already; remove it, or choose another name", f->path);
    return folder_begin(f, e) && check_room(f->tmp, room_for(gpt_config(m), 1, tokenizer_dir), e);
}

bool model_save(const Gpt *m, const char *dir, const char *tokenizer_dir, Err *e) {
    Folder f = {0};
    folder_name(&f, dir);
    bool ok = ranks_agree(m, !is_first(m) || begin_model(&f, m, tokenizer_dir, e), e) &&
              put_model(&f, m, tokenizer_dir, e);
    if (is_first(m)) ok = folder_end(&f, ok, e);
    folder_free(&f);
    return ranks_agree(m, ok, e);
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
        comm_alive("removing old checkpoints");
        if (complete == keep)
            retire(path);
        else
            complete += check_manifest(path, CHECK_SIZES, NULL, &(Err){0});
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

static bool begin_checkpoint(const Folder *f, const Gpt *m, int n_sets, const char *tokenizer_dir, Err *e) {
    char *dir = folder_of(f->path);
    bool ok = dir_make(dir, e) && remove_leftovers(dir, e) && folder_begin(f, e) &&
              check_room(dir, room_for(gpt_config(m), n_sets, tokenizer_dir), e);
    free(dir);
    return ok;
}

static bool put_state(Folder *f, const TrainState *s, Err *e) {
    Str json = {0};
    state_print(s, &json);
    bool ok = folder_put(f, STATE, json.p, json.n, e);
    str_free(&json);
    return ok;
}

bool checkpoint_save(const char *run, int64_t step, const Gpt *m, const Moment *moments, int n_moments,
                     const TrainState *s, const char *tokenizer_dir, int64_t keep, Err *e) {
    const bool first = is_first(m);
    Folder f = {0};
    Err why = {0};
    char *path = step_path(run, step);
    folder_name(&f, path);
    bool ok = !first || begin_checkpoint(&f, m, 1 + n_moments, tokenizer_dir, &why);
    ok = ranks_agree(m, ok, &why) && put_model(&f, m, tokenizer_dir, &why) &&
         (!n_moments || put_tensors(&f, m, "optimizer", moments, n_moments, true, &why));
    if (first) ok = folder_end(&f, ok && put_state(&f, s, &why), &why);
    ok =
        ranks_agree(m, ok, &why) || err_set(e, "checkpoint of step %" PRId64 " not saved: %s", step, why.msg);
    folder_free(&f);
    free(path);
    if (first && ok) ok = put_latest(run, step, e) && prune(run, step, keep, e);
    return ranks_agree(m, ok, e);
}

bool checkpoint_load(const char *dir, Gpt *m, const Moment *moments, int n_moments, TrainState *s, Err *e) {
    char *path = path_join(dir, MOMENTS);
    bool ok = load_weights(m, dir, e) && (!n_moments || moments_load(m, path, moments, n_moments, e)) &&
              state_read(s, dir, e);
    free(path);
    return ranks_agree(m, ok, e);
}

/* ---- other formats --------------------------------------------------------------------------------------- */

static bool write_llmc(const ModelFile *s, const ModelConfig *c, const char *out, Err *e) {
    char *dir = folder_of(out);
    bool ok = check_room(dir, room_for(c, 1, NULL), e) && llmc_save(s, c, out, e);
    free(dir);
    return ok;
}

static bool write_hf(const ModelFile *s, const ModelConfig *c, const char *tokenizer_dir, const char *out,
                     Err *e) {
    Folder f = {0};
    SavedFile file;
    folder_name(&f, out);
    bool ok = folder_begin(&f, e) && check_room(f.tmp, room_for(c, 1, tokenizer_dir), e) &&
              put_config(&f, c, tokenizer_dir, e) && weights_copy(s, c, f.tmp, &file, e);
    if (ok) folder_list(&f, file.name, file.bytes, file.crc);
    ok = folder_end(&f, ok, e);
    folder_free(&f);
    return ok;
}

/* From file to file: no model is made. */
bool model_convert(const char *path, const char *to, const char *out, Err *e) {
    ModelConfig c;
    ModelFile s;
    char *found;
    if (strcmp(to, "llmc") && strcmp(to, "hf"))
        return err_usage(e, "--to %s: not a format; llmc (llm.c's .bin) and hf (a Hugging Face folder) are",
                         to);
    if (path_exists(out)) return err_usage(e, "%s: exists already; remove it, or choose another name", out);
    if (!model_find(path, &found, e)) return false;
    bool ok = config_of(found, &c, e) && (!path_is_dir(found) || check_model_files(found, NULL, e)) &&
              open_model_file(&s, found, &c, e);
    if (ok) {
        char *tokenizer = model_tokenizer(path);
        ok = !strcmp(to, "llmc") ? write_llmc(&s, &c, out, e) : write_hf(&s, &c, tokenizer, out, e);
        free(tokenizer);
        s.close(&s);
    }
    free(found);
    return ok;
}
