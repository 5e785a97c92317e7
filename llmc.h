/* llmc.h - floor 4: llm.c's model files: 256 little-endian int32, then all parameters.
 *
 * [0] = 20240326, [1] = 3 (fp32) or 5 (bf16), [2] positions, [3] vocabulary, [4] layers, [5] heads, [6] width,
 * [7] rows of wte in the file, a multiple of 128. Each kind of parameter is stacked over the layers; matrices are
 * [out, in], the transposes of Hugging Face's. Ours add, in words that llm.c leaves zero, [8] = 1 and [9] = the crc32 of
 * the whole file with a zero in [9]. */
#ifndef GPT_LLMC_H
#define GPT_LLMC_H

#include "tensors.h"

/* What the header says; the file must have exactly the size that follows from it. */
bool llmc_config(const char *path, ModelConfig *c, Err *e);
/* The weights in it. Errors: the above, a wrong crc32. */
bool llmc_open(ModelFile *s, const char *path, Err *e);
/* Version 3, of all weights of a model file. Refuses models that the format cannot describe. */
bool llmc_save(const ModelFile *s, const ModelConfig *c, const char *path, Err *e);

#endif
