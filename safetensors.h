/* safetensors.h - floor 2: tensors in files that other tools open. A bounded reader (mmap), an atomic writer. */
#ifndef GPT_SAFETENSORS_H
#define GPT_SAFETENSORS_H

#include "util.h"

typedef enum { ST_F32, ST_F16, ST_BF16, ST_F64, ST_I64, ST_I32, ST_I16, ST_I8, ST_U8, ST_BOOL } StDtype;
size_t st_dtype_size(StDtype d);

enum { ST_MAX_RANK = 8 };

typedef struct StTensor {
    char *name;
    StDtype dtype;
    int rank;
    uint64_t shape[ST_MAX_RANK];
    uint64_t begin, end; /* bytes, within the data that follows the header */
    const uint8_t *data;
} StTensor;

/* One file, or all files that the index beside where it would be names: PATH, or PATH.index.json. A folder stands for its
 * model.safetensors. */
typedef struct SafeTensors {
    Map *maps;
    int n_maps;
    StTensor *tensors; /* sorted by name */
    int n;
    char **keys, **values; /* __metadata__ */
    int n_meta;
} SafeTensors;
/* Refuses: a header longer than the file or than 100 MB, bad JSON, unknown dtypes, shapes that overflow or do
 * not match the offsets, offsets outside the file, overlapping or missing bytes, names given twice. */
bool st_open(SafeTensors *s, const char *path, Err *e);
char *st_path(const char *path); /* the file or the index that st_open begins with; malloc'd */
void st_close(SafeTensors *s);
const StTensor *st_find(const SafeTensors *s, const char *name);
const char *st_meta(const SafeTensors *s, const char *key);
/* Convert n elements of t from element `at` to fp32 (from F32, F16, BF16, F64); false for other dtypes. */
bool st_read_f32(const StTensor *t, uint64_t at, uint64_t n, float *dst);

/* Writer: declare every tensor first, then put the data in the same order, then commit. The header's
 * __metadata__ carries {"format": "pt"} and what st_writer_meta adds. The crc32 of the data, which the reader
 * of our own files checks, is kept by the caller in the trainer state (see checkpoint.h): foreign tools refuse
 * unknown trailing bytes. */
typedef struct StWriter StWriter;
StWriter *st_writer(void);
void st_writer_meta(StWriter *w, const char *key, const char *value);
void st_writer_add(StWriter *w, const char *name, StDtype dtype, int rank, const uint64_t *shape);
bool st_writer_begin(StWriter *w, const char *path, Err *e);  /* writes the header */
void st_writer_put(StWriter *w, const void *bytes, size_t n); /* data of the tensors in declared order */
bool st_writer_commit(StWriter *w, uint32_t *file_crc, uint64_t *file_bytes, Err *e); /* frees w */
void st_writer_abandon(StWriter *w);

/* Number formats, bit exact: round to nearest even. */
uint16_t bf16_from_f32(float x);
float f32_from_bf16(uint16_t x);
uint16_t f16_from_f32(float x);
float f32_from_f16(uint16_t x);
#endif
