/* docs.h - floor 1: documents, one after the other, out of .txt and .jsonl files, plain or gzip'd (.gz).
 *
 * A .txt file is one document; a .jsonl file holds one a line, a JSON object with its text under a key. Reading is
 * serial, so it gives whatever is cheap to find: a document as it stands in its file. Turning a line of JSON into
 * its text is the expensive part, and doc_text() does it for one document at a time, on any thread. */
#ifndef GPT_DOCS_H
#define GPT_DOCS_H

#include "util.h"

typedef struct Doc {
    char *text; /* [n] and a NUL, malloc'd: of a .jsonl file, the line of JSON until doc_text() */
    size_t n;
    const char *file;
    uint64_t line;        /* in a .jsonl file, from 1; 0: plain text */
    bool first;           /* a document starts here; false: the last one goes on */
    const char *named_by; /* what names its key, for errors; NULL: --key */
    double nats;          /* the number under "nats", the document's -log p; NAN where there is none */
    size_t lo,
        hi; /* after doc_text(): where the string stood in the line of JSON, with its quotes; 0 0: plain */
} Doc;

typedef struct Docs {
    const char *const *files; /* borrowed */
    int n_files, at;          /* `at`: the file that is open, or the next one */
    bool open, first, eof;
    bool whole; /* may be set after docs_open(): a .txt file is not cut into pieces, however long it is */
    Text in;
    Str rest;    /* of a .txt file: read, not yet given out */
    char *block; /* read buffer */
} Docs;

bool doc_is_text(const char *path); /* by its name: a .txt, so one document */
bool docs_known(const char *path);  /* by its name: has it one of the endings that are read here? */

/* Checks that every file has one of the four endings and can be opened. */
bool docs_open(Docs *d, const char *const *files, int n_files, Err *e);
void docs_close(Docs *d);

/* The next document, or the next piece of a long .txt file; doc->text NULL at the end. A file is cut into pieces
 * only before a line break that follows a character other than white space. There a word ends under GPT-2's
 * pattern and GPT-1's, whatever comes after, so encoding piece by piece gives the ids of the whole. */
bool docs_next(Docs *d, Doc *doc, Err *e);

/* The next ones, at most `max`, until their files' bytes are `want` or more; *n == 0 at the end. Whatever fails, the
 * *n texts that were read are the caller's. */
bool docs_batch(Docs *d, Doc *doc, int max, size_t want, int *n, Err *e);

/* Decodes a line of JSON in place: doc->text becomes the string under `key`, with \u0000 as a zero byte and half a
 * surrogate pair as U+FFFD; a byte order mark may begin the file. Does nothing to plain text. Errors name file and
 * line. */
bool doc_text(Doc *doc, const char *key, Err *e);

/* For people to read: the beginnings of the first `documents` of a file, and what else their lines say; with `verify`
 * every line is read, and how much there is comes after. */
bool docs_inspect(const char *path, const char *key, bool verify, int documents, Str *out, Err *e);

/* Appends UTF-8 as a JSON string, in quotes. */
void doc_put_json(Str *json, const char *text, size_t n);
#endif
