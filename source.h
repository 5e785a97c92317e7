/* source.h - floor 1: raw documents out of files from anywhere: .txt, .jsonl, .html, .warc and .wet, plain or gzip'd.
 *
 * A .txt or .html file is one document, a .jsonl file holds one a line, a WARC file one a record: of the kind
 * "conversion" (text), or "response" with HTML in it. What cannot be read is a problem: it is told, with file and
 * offset, and passed over. Memory is bounded by the longest document that is asked for. */
#ifndef GPT_SOURCE_H
#define GPT_SOURCE_H

#include "util.h"

typedef enum { RAW_TEXT, RAW_JSON, RAW_HTML } RawKind;

typedef struct RawDoc {
    RawKind kind;
    Str data;        /* a line of JSON, bytes of text or HTML; its buffer is used again */
    Str url;         /* of a WARC record; else empty */
    uint64_t offset; /* where it starts in the file's (uncompressed) bytes */
    uint64_t line;   /* in a .jsonl file, from 1 */
} RawDoc;

typedef struct Problem {
    uint64_t offset;
    char what[200];
} Problem;
typedef void (*ProblemFn)(void *ctx, const char *file, const Problem *p);

typedef struct Source Source;
bool source_known(const char *path); /* does the name end in something that is read here? */
Source *source_open(const char *path, size_t max_document, ProblemFn tell, void *ctx, Err *e);
/* The next document; false at the end, or where the file cannot be read on (which has been told). */
bool source_next(Source *s, RawDoc *doc);
uint64_t source_offset(const Source *s); /* uncompressed bytes read so far */
void source_close(Source *s);
void raw_free(RawDoc *doc);
#endif
