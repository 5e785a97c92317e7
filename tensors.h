/* tensors.h - floor 4: a model's numbers between files and the memories of its ranks.
 *
 * A ModelFile is all of a model's numbers, readable in any order, whatever the format of the file; each rank loads from it
 * what it holds. Saving is the work of all ranks together: a tensor stands whole in one file, the tensors of a pipeline
 * stage are dealt to its ranks, and the rank that writes one collects it, a block at a time, from those that hold it.
 * All ranks must see the same file system. */
#ifndef GPT_TENSORS_H
#define GPT_TENSORS_H

#include "gpt.h"

/* A kind of optimizer state, in files PREFIX.PARAMETER ("m", "v"): a number for each weight that this rank keeps state
 * for, side by side in the order of gpt_owned, in the back end's memory. Or the weights themselves: prefix "", all of
 * them. */
typedef struct Moment {
    const char *prefix;
    float *at;
    int64_t n; /* so many; if not all, then the matrices inside the layers, last in memory, have none */
} Moment;

typedef struct ModelFile ModelFile;
struct ModelFile {
    /* Elements [at, at + n) of a tensor in one of the file's sets; p may be a row of any rank's table. */
    void (*read)(const ModelFile *s, int set, const Param *p, int64_t at, int64_t n, float *dst);
    void (*close)(ModelFile *s);
    void *file;
};

/* The weights in a .safetensors file or a folder with one or several. Every tensor of the whole model's table must be
 * there with its shape, and no other; see model_load. */
bool weights_open(ModelFile *s, const char *path, const ModelConfig *c, Err *e);
/* This rank's part. */
void weights_load(Gpt *m, const ModelFile *s);
/* The same for optimizer state. `path` is the file, or stands for those that PATH.index.json names. */
bool moments_load(const Gpt *m, const char *path, const Moment *sets, int n_sets, Err *e);

typedef struct SavedFile {
    char name[64];
    uint64_t bytes;
    uint32_t crc;
} SavedFile;
/* All ranks: writes sets of tensors into a folder, as BASE.safetensors or as BASE-00001-of-0000N.safetensors and so on
 * with BASE.safetensors.index.json. Fails on all ranks if it does on one, or if one comes with `ok` false. *files, on the
 * first rank: what was written, malloc'd. */
bool tensors_save(const Gpt *m, const char *dir, const char *base, const Moment *sets, int n_sets, bool ok,
                  SavedFile **files, int *n_files, Err *e);
/* The weights of a model file as one file of fp32 numbers. */
bool weights_copy(const ModelFile *s, const ModelConfig *c, const char *dir, SavedFile *file, Err *e);

/* Of all ranks of the model's grid: see comm_agree. */
bool ranks_agree(const Gpt *m, bool ok, Err *e);

/* A rank's part of a tensor, numbered from 0 to outer * inner in the order of the file: how many of it stand before the
 * file's element `at`. */
int64_t part_before(const Param *p, int64_t at);
/* Where number `from` of it stands in the file, and how many stand side by side there from it on. */
int64_t part_stretch(const Param *p, int64_t from, int64_t *at);

#endif
