/* util.h - floor 0: errors, checked input and output, memory, random numbers, clocks, progress.
 *
 * Everything else stands on this page, and it stands on nothing but libc, zlib and POSIX. */
#ifndef GPT_UTIL_H
#define GPT_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- errors ----------------------------------------------------------------------------------------------
 * A function that can fail for a reason outside the program takes an `Err *` last, returns false (or NULL)
 * and fills it with one line: which file or key, what is wrong, what to do. Only main.c prints and exits. */

enum { EXIT_FAULT = 1, EXIT_USAGE = 2, EXIT_STOPPED = 75 };

typedef struct Err {
    int code;       /* EXIT_FAULT or EXIT_USAGE; 0 while nothing has failed */
    char msg[1024]; /* one line, no newline at the end */
} Err;

/* Fill *e (the first failure wins) and return false, so that callers can `return err_set(...)`. */
bool err_set(Err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* code EXIT_FAULT */
bool err_usage(Err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* code EXIT_USAGE */

/* A promise inside the program. Stays on in release builds; never for user input. */
#define CHECK(cond, ...) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond, "" __VA_ARGS__))
void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* One line on stderr, "gpt: ...", that goes on: what the program found, chose, or skipped. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* From here on notes and progress lines go to stderr only if `terminal`, and to this file descriptor as well (-1: no). */
void note_to(bool terminal, int log);
/* Who this process is, for the line of a broken promise: "rank 3 (node7)"; kept, not copied. */
void fault_by(const char *who);

/* ---- sizes and memory ------------------------------------------------------------------------------------ */

bool size_mul(size_t a, size_t b, size_t *out); /* false on overflow */
bool size_add(size_t a, size_t b, size_t *out);

void *xmalloc(size_t n); /* never NULL: ends the program with a message when memory is out */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);

uint64_t memory_available(void); /* bytes this machine can still give without swapping; 0: unknown */

/* An arena: one block of address space, asked for once (huge pages where the system has them, zeroed),
 * handed out in pieces aligned to 64 bytes, given back whole. */
typedef struct Arena {
    char *base;
    size_t size, used;
} Arena;
bool arena_init(Arena *a, size_t bytes, const char *what, Err *e); /* error says what needed how much */
void *arena_take(Arena *a, size_t bytes);                          /* CHECKs that it was planned for */
void arena_free(Arena *a);

/* A growing byte string; `s.p` is always NUL-terminated once anything was put in. */
typedef struct Str {
    char *p;
    size_t n, cap;
} Str;
void str_put(Str *s, const void *bytes, size_t n);
void str_puts(Str *s, const char *text);
void str_printf(Str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_free(Str *s);

/* ---- files ----------------------------------------------------------------------------------------------- */

bool path_is_dir(const char *path);
bool path_exists(const char *path);
char *path_join(const char *dir, const char *name);             /* malloc'd */
bool dir_make(const char *path, Err *e);                        /* mkdir -p */
bool dir_remove(const char *path, Err *e);                      /* rm -r; a missing folder is fine */
bool dir_sync(const char *path, Err *e);                        /* its entries reach the disk */
bool dir_list(const char *path, char ***names, int *n, Err *e); /* sorted, without . and ..; names_free() */
bool glob_list(const char *pattern, char ***names, int *n, Err *e); /* sorted; no match is an error */
void names_free(char **names, int n);
bool disk_free(const char *path, uint64_t *bytes, Err *e); /* free for this user on path's file system */

bool file_read(const char *path, size_t max, char **data, size_t *n,
               Err *e); /* whole file; NUL after the end */

/* A read-only mapping of a whole file. An empty file is an error. */
typedef struct Map {
    const uint8_t *p;
    size_t n;
} Map;
bool map_open(Map *m, const char *path, Err *e);
void map_close(Map *m);

/* A file that appears whole or not at all: written to "PATH.tmp", fsync'd, renamed, its folder fsync'd.
 * Every error is kept and reported by file_commit; file_abandon (after a failure) removes the temporary.
 * `crc` is zlib's crc32 of all bytes written so far. */
typedef struct OutFile {
    int fd;
    uint32_t crc;
    uint64_t n;    /* bytes written so far */
    uint64_t sent; /* of which so many are on their way to the disk */
    char *path, *tmp, *buf;
    size_t buffered;
    Err err;
} OutFile;
bool file_create(OutFile *f, const char *path, Err *e);
void file_put(OutFile *f, const void *bytes, size_t n);
void file_printf(OutFile *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void file_patch(OutFile *f, uint64_t offset, const void *bytes, size_t n); /* rewrite a header; not in crc */
bool file_commit(OutFile *f, Err *e);
void file_abandon(OutFile *f);
bool file_write(const char *path, const void *bytes, size_t n, Err *e); /* the three above in one */

uint32_t crc32_of(uint32_t crc, const void *bytes, size_t n); /* zlib's crc32, any size; start with crc = 0 */

/* Appends n bytes as a gzip member, from level 1, fast, to 9, small. It holds no name and no time, so the same bytes make
 * the same member. */
void gzip_put(Str *s, const void *bytes, size_t n, int level);

/* Text in, line by line or block by block: plain or gzip (multi-member too), "-" is stdin. A truncated or
 * corrupt gzip stream is an error, not an end, after what stood before it; so is anything but zeros behind one. */
typedef struct Text {
    struct TextIn *in;
    const char *path; /* borrowed */
    char *buf;
    size_t cap, lo, hi;
    uint64_t line; /* number of the last line returned, from 1 */
    bool eof;
} Text;
bool text_open(Text *t, const char *path, Err *e);
bool text_line(Text *t, char **line, size_t *n, Err *e); /* without its newline; *line NULL at the end */
bool text_block(Text *t, char *dst, size_t cap, size_t *n, Err *e); /* next bytes; *n == 0 at the end */
bool text_all(const char *path, char **data, size_t *n, Err *e);    /* the whole, malloc'd, NUL after it */
void text_close(Text *t);

/* Bytes of the UTF-8 character that starts at s (n > 0 bytes left): 0 if none can; -k if it is cut after k bytes. */
int utf8_length(const char *s, size_t n);
bool utf8_valid(const char *s, size_t n);
/* Length of the longest prefix of s that does not end inside a UTF-8 character (for streaming). */
size_t utf8_whole(const char *s, size_t n);

/* ---- random numbers --------------------------------------------------------------------------------------
 * Counter-based (Philox 4x32-10, Salmon et al. 2011): a value is a function of (seed, purpose, step, index),
 * so nothing has a state to save and nothing depends on the order or the number of threads or ranks. */

enum {
    RAND_INIT = 1,
    RAND_SHUFFLE,
    RAND_MIX,
    RAND_DROPOUT,
    RAND_SAMPLE,
    RAND_DEMO,
    RAND_ROUND,
    RAND_TEST,
    RAND_KEEP
};

/* Four independent 32-bit values for a 64-bit key and a 128-bit counter. */
void philox4x32(uint64_t key, uint64_t hi, uint64_t lo, uint32_t out[4]);
uint32_t rand_u32(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index);
double rand_uniform(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index); /* [0, 1), 53 bits */
/* n normal values of mean 0 and deviation std: elements first, first + 1, ... (first a multiple of 4) of the
 * endless list that (seed, purpose, step) names. */
void rand_normals(float *out, size_t n, float std, uint64_t seed, uint32_t purpose, uint64_t step,
                  uint64_t first);
uint64_t rand_below(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index, uint64_t n); /* [0, n) */

/* ---- time and progress ----------------------------------------------------------------------------------- */

double now_seconds(void);                             /* monotonic */
const char *human_bytes(double bytes, char buf[24]);  /* "1.23 GiB" */
const char *human_count(double n, char buf[24]);      /* "124.4M" */
const char *human_time(double seconds, char buf[24]); /* "1:02:03" or "42 s" */

/* A line that rewrites itself on a terminal and is a plain line in a log. `final` ends it with a newline. */
void progress_line(bool final, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool progress_is_terminal(void); /* is stderr a terminal? */

#endif
