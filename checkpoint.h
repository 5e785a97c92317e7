/* checkpoint.h - floor 4: model folders. Save, load, resume, import, export.
 *
 * A checkpoint folder is a Hugging Face model folder (config.json, model.safetensors, tokenizer files) plus, for
 * --resume, optimizer.safetensors (m.NAME, v.NAME fp32), state.json (named values: step, skip counters, ...), and
 * manifest.json: every file's size and crc32, written last. The folder is filled under a temporary name, fsync'd
 * and renamed, so a folder called step-N is complete or damaged later; the manifest tells.
 *
 * Many ranks write one folder together, on a file system that all of them see: each writes tensors, whole, into
 * model-00001-of-0000N.safetensors and so on, optimizer-...; an index says which is where. Nothing in it depends on the
 * grid but in which file a tensor stands, so any grid reads what any other wrote. What takes a Gpt is called by all ranks
 * of its grid together, and fails on all if it does on one. */
#ifndef GPT_CHECKPOINT_H
#define GPT_CHECKPOINT_H

#include "tensors.h"

/* Training state beyond weights and moments: named values that checkpoints carry without knowing their meaning. */
typedef struct NamedValue {
    char key[48];
    double value; /* integers are exact to 2^53 */
} NamedValue;
typedef struct TrainState {
    NamedValue *at;
    int n;
} TrainState;
void state_set(TrainState *s, const char *key, double value);
double state_get(const TrainState *s, const char *key, double otherwise);
void state_free(TrainState *s);

/* What --model and init_from accept: a run folder (its `latest`), a checkpoint folder, any Hugging Face GPT-2 or
 * openai-gpt folder, a .safetensors file beside its config.json, an llm.c .bin. Finds the folder or file that holds the model.
 * In a run it passes over checkpoints with files missing or cut short; contents are checked by model_load. */
bool model_find(const char *path, char **found, Err *e);
/* Its configuration alone. */
bool model_config_of(const char *path, ModelConfig *c, Err *e);
/* Fill a created model's weights. Every tensor of the table must be there with its shape; names with or without
 * "transformer."; .attn.bias and .attn.masked_bias are passed over; any other tensor left over is an error. Reads fp32,
 * fp16, bf16. A folder with a manifest is checked against it. The model must be the one that config.json describes: the
 * same heads, epsilon and so on. Does not call gpt_weights_changed. */
bool model_load(Gpt *m, const char *path, Err *e);
/* A new folder: config.json, model.safetensors (fp32), the tokenizer's files copied from tokenizer_dir (NULL: none), and a
 * manifest.json. transformers opens it, unless it is a gpt3. */
bool model_save(const Gpt *m, const char *dir, const char *tokenizer_dir, Err *e);
/* A folder whose tokenizer files belong to the model at `path`; NULL if there are none. malloc'd. */
char *model_tokenizer(const char *path);

/* RUN/checkpoints/step-00001000, then RUN/latest, then removal of the oldest beyond `keep` (0: keep all). Free space
 * is checked first. On failure nothing that was complete is lost. */
bool checkpoint_save(const char *run, int64_t step, const Gpt *m, const Moment *moments, int n_moments,
                     const TrainState *s, const char *tokenizer_dir, int64_t keep, Err *e);
/* The newest complete checkpoint of a run, verified against its manifest; damaged ones are noted and passed over.
 * *dir NULL (and true) if there is none. malloc'd. The ranks of comm (NULL: there is one) share the reading. */
bool checkpoint_newest(const char *run, Comm *comm, char **dir, int64_t *step, Err *e);
/* From a folder that checkpoint_newest has verified. Adds every value of state.json to *s. */
bool checkpoint_load(const char *dir, Gpt *m, const Moment *moments, int n_moments, TrainState *s, Err *e);

/* `gpt convert`: "llmc" writes llm.c's model .bin (fp32, version 3); "hf" a Hugging Face folder, all weights in one file.
 * Goes through the tensors one by one: needs no GPU, and less memory than the largest tensor ("llmc": twice the largest
 * matrix). */
bool model_convert(const char *path, const char *to, const char *out, Err *e);

#endif
