/* util.c - floor 0: see util.h. */
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#ifdef GPT_LIBDEFLATE
#include <libdeflate.h>
#endif

/* ---- errors ---------------------------------------------------------------------------------------------- */

static bool err_vset(Err *e, int code, const char *fmt, va_list ap) {
    if (e->code) return false;
    e->code = code;
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    for (char *c = e->msg; *c; c++) /* one line, whatever a file name or a foreign file put into it */
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    return false;
}

bool err_set(Err *e, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(e, EXIT_FAULT, fmt, ap);
    va_end(ap);
    return false;
}

bool err_usage(Err *e, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(e, EXIT_USAGE, fmt, ap);
    va_end(ap);
    return false;
}

static const char *faulty = "";

void fault_by(const char *who) {
    faulty = who;
}

/* In one piece: ranks share a terminal. */
void check_failed(const char *file, int line, const char *cond, const char *fmt, ...) {
    char what[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    fprintf(stderr, "gpt: %s%sinternal error at %s:%d: %s%s%s\n", faulty, *faulty ? ": " : "", file, line,
            cond, *what ? ": " : "", what);
    abort();
}

static bool progress_open_line; /* a progress line stands unfinished on the terminal */

static void progress_clear(void) {
    if (progress_open_line) fputs("\r\033[K", stderr);
    progress_open_line = false;
}

static bool note_terminal = true;
static int note_log = -1;

void note_to(bool terminal, int log) {
    note_terminal = terminal;
    note_log = log;
}

/* A line of the log, whole or not at all. What the disk refuses is not worth a run. */
static void log_line(const char *head, const char *fmt, va_list ap) {
    Str s = {0};
    char line[2048];
    if (note_log < 0) return;
    vsnprintf(line, sizeof line, fmt, ap);
    str_printf(&s, "%s%s\n", head, line);
    if (write(note_log, s.p, s.n) < 0) note_log = -1;
    str_free(&s);
}

void note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    log_line("gpt: ", fmt, ap);
    va_end(ap);
    if (!note_terminal) return;
    progress_clear();
    fputs("gpt: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- sizes and memory ------------------------------------------------------------------------------------ */

bool size_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
bool size_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static void *checked(void *p, size_t n) {
    if (p) return p;
    fprintf(stderr, "gpt: %s%sout of memory: %zu bytes were asked for\n", faulty, *faulty ? ": " : "", n);
    exit(EXIT_FAULT);
}

void *xmalloc(size_t n) {
    return checked(malloc(n ? n : 1), n);
}

void *xcalloc(size_t n, size_t size) {
    return checked(calloc(n ? n : 1, size ? size : 1), n * size);
}

void *xrealloc(void *p, size_t n) {
    return checked(realloc(p, n ? n : 1), n);
}

char *xstrdup(const char *s) {
    return strcpy(xmalloc(strlen(s) + 1), s);
}

uint64_t memory_available(void) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    if (f) fclose(f);
    return (uint64_t)kib << 10;
}

bool arena_init(Arena *a, size_t bytes, const char *what, Err *e) {
    const size_t huge = (size_t)2 << 20;
    *a = (Arena){0};
    if (!size_add(bytes, 2 * huge, &a->size)) return err_set(e, "%s: size overflows", what);
    a->size = (bytes ? (bytes + huge - 1) / huge : 1) * huge;
    char *p = mmap(NULL, a->size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        char b[24];
        return err_set(e,
                       "%s needs %s of memory, which this machine does not have; try a smaller "
                       "train.micro_batch_size or train.recompute=block",
                       what, human_bytes((double)a->size, b));
    }
    a->base = p + (huge - (uintptr_t)p % huge) % huge; /* huge pages begin at multiples of their size */
    if (a->base > p) munmap(p, (size_t)(a->base - p));
    munmap(a->base + a->size, huge - (size_t)(a->base - p));
    madvise(a->base, a->size, MADV_HUGEPAGE); /* advice only: first touch is four times faster with it */
    return true;
}

void *arena_take(Arena *a, size_t bytes) {
    size_t n = (bytes + 63) & ~(size_t)63;
    CHECK(n >= bytes && n <= a->size - a->used, "arena: %zu of %zu bytes used, %zu more asked for", a->used,
          a->size, bytes);
    void *p = a->base + a->used;
    a->used += n;
    return p;
}

void arena_free(Arena *a) {
    if (a->base) munmap(a->base, a->size);
    *a = (Arena){0};
}

static void str_reserve(Str *s, size_t more) {
    size_t need;
    CHECK(size_add(s->n, more, &need) && size_add(need, 1, &need));
    if (need <= s->cap) return;
    s->cap = need > s->cap * 2 ? need : s->cap * 2;
    s->p = xrealloc(s->p, s->cap);
}

void str_put(Str *s, const void *bytes, size_t n) {
    str_reserve(s, n);
    if (n) memcpy(s->p + s->n, bytes, n);
    s->n += n;
    s->p[s->n] = 0;
}

void str_puts(Str *s, const char *text) {
    str_put(s, text, strlen(text));
}

void str_printf(Str *s, const char *fmt, ...) {
    enum { USUALLY = 128 };
    va_list ap;
    str_reserve(s, USUALLY);
    va_start(ap, fmt);
    int n = vsnprintf(s->p + s->n, USUALLY + 1, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    if (n > USUALLY) {
        str_reserve(s, (size_t)n);
        va_start(ap, fmt);
        vsnprintf(s->p + s->n, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    s->n += (size_t)n;
}

void str_free(Str *s) {
    free(s->p);
    *s = (Str){0};
}

/* ---- files ----------------------------------------------------------------------------------------------- */

bool path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

char *path_join(const char *dir, const char *name) {
    size_t n = strlen(dir);
    Str s = {0};
    str_printf(&s, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    return s.p;
}

bool dir_make(const char *path, Err *e) {
    char *p = xstrdup(path);
    bool ok = true;
    for (char *c = p + 1; ok; c++) {
        if (*c != '/' && *c != 0) continue;
        char keep = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && !(errno == EEXIST && path_is_dir(p)))
            ok = err_set(e, "%s: cannot make this folder: %s", p, strerror(errno));
        *c = keep;
        if (!keep) break;
    }
    free(p);
    return ok;
}

bool dir_remove(const char *path, Err *e) {
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT || err_set(e, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        char **names;
        int n;
        if (!dir_list(path, &names, &n, e)) return false;
        bool ok = true;
        for (int i = 0; i < n && ok; i++) {
            char *p = path_join(path, names[i]);
            ok = dir_remove(p, e);
            free(p);
        }
        names_free(names, n);
        if (!ok) return false;
    }
    if (remove(path) != 0) return err_set(e, "%s: cannot remove: %s", path, strerror(errno));
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool dir_list(const char *path, char ***names, int *n, Err *e) {
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d) return err_set(e, "%s: cannot open this folder: %s", path, strerror(errno));
    int cap = 0;
    for (struct dirent *it; (it = readdir(d));) {
        if (!strcmp(it->d_name, ".") || !strcmp(it->d_name, "..")) continue;
        if (*n == cap) *names = xrealloc(*names, (size_t)(cap = cap * 2 + 16) * sizeof **names);
        (*names)[(*n)++] = xstrdup(it->d_name);
    }
    closedir(d);
    if (*n) qsort(*names, (size_t)*n, sizeof **names, by_name);
    return true;
}

bool glob_list(const char *pattern, char ***names, int *n, Err *e) {
    glob_t g;
    *names = NULL;
    *n = 0;
    int rc = glob(pattern, 0, NULL, &g);
    if (rc == 0) {
        *names = xcalloc(g.gl_pathc, sizeof **names);
        for (size_t i = 0; i < g.gl_pathc; i++) (*names)[(*n)++] = xstrdup(g.gl_pathv[i]);
        globfree(&g);
        return true;
    }
    return err_set(e, "%s: %s", pattern, rc == GLOB_NOMATCH ? "no such file" : "cannot list these files");
}

void names_free(char **names, int n) {
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}

bool disk_free(const char *path, uint64_t *bytes, Err *e) {
    struct statvfs v;
    if (statvfs(path, &v) != 0) return err_set(e, "%s: cannot ask for free space: %s", path, strerror(errno));
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return true;
}

/* Open a regular file (or stdin's like) for reading; a folder gets its own message. */
static int open_for_reading(const char *path, Err *e) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_set(e, "%s: cannot open: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        err_set(e, "%s: is a folder; a file is needed here", path);
    } else {
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

bool file_read(const char *path, size_t max, char **data, size_t *n, Err *e) {
    *data = NULL;
    *n = 0;
    int fd = open_for_reading(path, e);
    if (fd < 0) return false;
    Str s = {0};
    char *block = xmalloc(1 << 16);
    ssize_t got;
    while ((got = read(fd, block, 1 << 16)) > 0 && s.n <= max) str_put(&s, block, (size_t)got);
    bool ok = got >= 0 || err_set(e, "%s: cannot read: %s", path, strerror(errno));
    close(fd);
    free(block);
    if (ok && s.n > max)
        ok = err_set(e, "%s: larger than the %zu bytes allowed for this kind of file", path, max);
    if (!ok) {
        str_free(&s);
        return false;
    }
    str_put(&s, "", 0);
    *data = s.p;
    *n = s.n;
    return true;
}

bool map_open(Map *m, const char *path, Err *e) {
    struct stat st;
    *m = (Map){0};
    int fd = open_for_reading(path, e);
    if (fd < 0) return false;
    bool ok = true;
    if (fstat(fd, &st) != 0)
        ok = err_set(e, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        ok = err_set(e, "%s: not a regular file", path);
    else if (st.st_size == 0)
        ok = err_set(e, "%s: is empty", path);
    if (ok) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            ok = err_set(e, "%s: cannot map: %s", path, strerror(errno));
        else
            *m = (Map){p, (size_t)st.st_size};
    }
    close(fd);
    return ok;
}

void map_close(Map *m) {
    if (m->p) munmap((void *)m->p, m->n);
    *m = (Map){0};
}

enum { OUT_BUFFER = 1 << 18 };

bool file_create(OutFile *f, const char *path, Err *e) {
    Str tmp = {0};
    str_printf(&tmp, "%s.tmp", path);
    *f = (OutFile){.fd = open(tmp.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), .tmp = tmp.p};
    if (f->fd < 0) {
        err_set(e, "%s: cannot write: %s", path, strerror(errno));
        free(f->tmp);
        f->tmp = NULL;
        return false;
    }
    f->path = xstrdup(path);
    f->buf = xmalloc(OUT_BUFFER);
    return true;
}

static void write_all(OutFile *f, const char *p, size_t n, int64_t at) {
    while (n && !f->err.code) {
        ssize_t k = at < 0 ? write(f->fd, p, n) : pwrite(f->fd, p, n, at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            err_set(&f->err, "%s: cannot write: %s", f->path, strerror(errno));
            return;
        }
        p += k;
        n -= (size_t)k;
        if (at >= 0) at += k;
    }
}

static void file_flush(OutFile *f) {
    write_all(f, f->buf, f->buffered, -1);
    f->buffered = 0;
}

/* A long file goes to the disk as it grows, a window behind the last byte, so that fsync at the end does not wait for all
 * of it: who watches over this process could take it for hanging. Whether it worked, fsync tells. */
static void send_to_disk(OutFile *f) {
    enum { WINDOW = 32 << 20 };
    const unsigned wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    while (f->n - f->buffered - f->sent >= WINDOW) {
        sync_file_range(f->fd, (off64_t)f->sent, WINDOW, SYNC_FILE_RANGE_WRITE);
        if (f->sent) sync_file_range(f->fd, (off64_t)f->sent - WINDOW, WINDOW, wait);
        f->sent += WINDOW;
    }
}

void file_put(OutFile *f, const void *bytes, size_t n) {
    f->crc = crc32_of(f->crc, bytes, n);
    f->n += n;
    if (f->buffered + n > OUT_BUFFER) file_flush(f);
    if (n >= OUT_BUFFER) {
        write_all(f, bytes, n, -1);
    } else if (n) {
        memcpy(f->buf + f->buffered, bytes, n);
        f->buffered += n;
    }
    send_to_disk(f);
}

void file_printf(OutFile *f, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    char *text = xmalloc((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    file_put(f, text, (size_t)n);
    free(text);
}

void file_patch(OutFile *f, uint64_t offset, const void *bytes, size_t n) {
    CHECK(offset + n <= f->n, "only bytes already written can be patched");
    file_flush(f);
    write_all(f, bytes, n, (int64_t)offset);
}

bool dir_sync(const char *path, Err *e) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (!ok) err_set(e, "%s: cannot sync this folder: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

/* Make a rename durable: the folder's entry must reach the disk too. */
static bool sync_dir_of(const char *path, Err *e) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
    bool ok = dir_sync(checked(dir, 1), e);
    free(dir);
    return ok;
}

static void file_release(OutFile *f) {
    free(f->path);
    free(f->tmp);
    free(f->buf);
    *f = (OutFile){.fd = -1};
}

bool file_commit(OutFile *f, Err *e) {
    file_flush(f);
    if (!f->err.code && fsync(f->fd) != 0 && errno != EINVAL && errno != EROFS)
        err_set(&f->err, "%s: cannot sync: %s", f->path, strerror(errno));
    if (close(f->fd) != 0) err_set(&f->err, "%s: cannot close: %s", f->path, strerror(errno));
    if (!f->err.code && rename(f->tmp, f->path) != 0)
        err_set(&f->err, "%s: cannot rename the finished file to this: %s", f->path, strerror(errno));
    bool ok = !f->err.code;
    if (ok)
        ok = sync_dir_of(f->path, e);
    else
        unlink(f->tmp), err_set(e, "%s", f->err.msg);
    file_release(f);
    return ok;
}

void file_abandon(OutFile *f) {
    if (!f->tmp) return;
    close(f->fd);
    unlink(f->tmp);
    file_release(f);
}

bool file_write(const char *path, const void *bytes, size_t n, Err *e) {
    OutFile f;
    if (!file_create(&f, path, e)) return false;
    file_put(&f, bytes, n);
    return file_commit(&f, e);
}

uint32_t crc32_of(uint32_t crc, const void *bytes, size_t n) {
    return (uint32_t)crc32_z(crc, bytes, n);
}

/* ---- gzip ------------------------------------------------------------------------------------------------ */

#ifdef GPT_LIBDEFLATE /* twice as fast as zlib */
void gzip_put(Str *s, const void *bytes, size_t n, int level) {
    struct libdeflate_compressor *z = libdeflate_alloc_compressor(level);
    CHECK(z, "out of memory");
    size_t most = libdeflate_gzip_compress_bound(z, n);
    str_reserve(s, most);
    s->n += libdeflate_gzip_compress(z, n ? bytes : "", n, s->p + s->n, most);
    s->p[s->n] = 0;
    libdeflate_free_compressor(z);
}
#else
void gzip_put(Str *s, const void *bytes, size_t n, int level) {
    z_stream z = {0};
    CHECK(n < UINT32_MAX, "%zu bytes at once", n);
    CHECK(deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "out of memory");
    size_t most = deflateBound(&z, n);
    str_reserve(s, most);
    z.next_in = (unsigned char *)(n ? (uintptr_t)bytes : (uintptr_t)s->p), z.avail_in = (unsigned)n;
    z.next_out = (unsigned char *)s->p + s->n, z.avail_out = (unsigned)most;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    s->n += most - z.avail_out;
    s->p[s->n] = 0;
    deflateEnd(&z);
}
#endif

/* ---- text ------------------------------------------------------------------------------------------------ */

/* Where text comes from: a file as it is, or gzip members (RFC 1952), one after the other. zlib's gzread would take a
 * damaged header between two members for the end, and what was read before other damage for nothing. */
typedef struct TextIn {
    int fd;
    bool started, packed, eof;
    bool inside;  /* a member has begun and not ended */
    bool further; /* one has ended */
    z_stream z;   /* its input: what was read and not used yet */
    char why[96]; /* what is wrong, told when what stood before it has been given out */
    unsigned char buf[1 << 17];
} TextIn;

/* Reads on behind the n bytes of the buffer. */
static void text_fill(TextIn *in, size_t n) {
    ssize_t got;
    do got = read(in->fd, in->buf + n, sizeof in->buf - n);
    while (got < 0 && errno == EINTR);
    if (got < 0) snprintf(in->why, sizeof in->why, "cannot read: %s", strerror(errno));
    in->eof = got <= 0;
    in->z.next_in = in->buf, in->z.avail_in = (unsigned)n + (unsigned)(got > 0 ? got : 0);
}

/* The first two bytes say whether it is gzip data; a terminal is not asked for more than it has to say. */
static void text_start(TextIn *in) {
    in->started = true;
    text_fill(in, 0);
    if (in->z.avail_in == 1 && in->buf[0] == 0x1f) text_fill(in, 1);
    in->packed = in->z.avail_in >= 2 && in->buf[0] == 0x1f && in->buf[1] == 0x8b;
    if (in->packed) CHECK(inflateInit2(&in->z, 15 + 16) == Z_OK, "out of memory");
}

/* Some of what the input holds, which is not empty; how many bytes. */
static size_t text_inflate(TextIn *in, char *dst, size_t cap) {
    z_stream *z = &in->z;
    if (!in->inside && in->further) { /* some writers fill the last block up with zeros */
        for (; z->avail_in && !*z->next_in; z->avail_in--) z->next_in++;
        if (!z->avail_in) return 0;
        inflateReset(z);
    }
    in->inside = true;
    z->next_out = (unsigned char *)dst, z->avail_out = (unsigned)cap;
    int end = inflate(z, Z_NO_FLUSH);
    if (end == Z_STREAM_END)
        in->inside = false, in->further = true;
    else if (end != Z_OK && end != Z_BUF_ERROR)
        snprintf(in->why, sizeof in->why, "the gzip data is damaged: %s", z->msg ? z->msg : "out of memory");
    return cap - z->avail_out;
}

bool text_open(Text *t, const char *path, Err *e) {
    *t = (Text){.path = path};
    int fd = strcmp(path, "-") ? open_for_reading(path, e) : dup(0);
    if (fd < 0) return err_set(e, "%s: cannot open: %s", path, strerror(errno));
    TextIn *in = t->in = xmalloc(sizeof *in);
    memset(in, 0, offsetof(TextIn, buf));
    in->fd = fd;
    return true;
}

bool text_block(Text *t, char *dst, size_t cap, size_t *n, Err *e) {
    TextIn *in = t->in;
    if (cap > 1u << 30) cap = 1u << 30;
    if (!in->started) text_start(in);
    for (*n = 0; !*n && !*in->why;) {
        if (!in->z.avail_in && !in->eof) text_fill(in, 0);
        if (!in->z.avail_in) break;
        if (in->packed) {
            *n = text_inflate(in, dst, cap);
        } else {
            *n = in->z.avail_in < cap ? in->z.avail_in : cap;
            memcpy(dst, in->z.next_in, *n);
            in->z.next_in += *n, in->z.avail_in -= (unsigned)*n;
        }
    }
    if (*n) return true;
    if (in->inside && !*in->why)
        return err_set(e, "%s: the gzip data ends too early; the file is truncated", t->path);
    return !*in->why || err_set(e, "%s: %s", t->path, in->why);
}

bool text_line(Text *t, char **line, size_t *n, Err *e) {
    *line = NULL;
    *n = 0;
    size_t scanned = t->lo;
    for (;;) {
        char *end = t->hi > scanned ? memchr(t->buf + scanned, '\n', t->hi - scanned) : NULL;
        if (end || (t->eof && t->hi > t->lo)) {
            if (!end) end = t->buf + t->hi;
            *line = t->buf + t->lo;
            *n = (size_t)(end - *line);
            t->lo += *n + (*n < t->hi - t->lo);
            *end = 0;
            t->line++;
            return true;
        }
        if (t->eof) return true;
        scanned = t->hi - t->lo;
        if (t->lo) memmove(t->buf, t->buf + t->lo, scanned), t->hi = scanned, t->lo = 0;
        if (t->cap - t->hi < (1 << 16)) t->buf = xrealloc(t->buf, (t->cap = t->cap * 2 + (1 << 18)) + 1);
        size_t got;
        if (!text_block(t, t->buf + t->hi, t->cap - t->hi, &got, e)) return false;
        t->hi += got;
        t->eof = got == 0;
    }
}

bool text_all(const char *path, char **data, size_t *n, Err *e) {
    Text t;
    Str s = {0};
    *data = NULL;
    *n = 0;
    if (!text_open(&t, path, e)) return false;
    bool ok;
    for (size_t got = 1; (ok = got > 0);) {
        str_reserve(&s, 1 << 20);
        ok = text_block(&t, s.p + s.n, 1 << 20, &got, e);
        s.n += got;
        if (!ok || !got) break;
    }
    text_close(&t);
    if (!ok) {
        str_free(&s);
        return false;
    }
    s.p[s.n] = 0;
    *data = s.p;
    *n = s.n;
    return true;
}

void text_close(Text *t) {
    if (t->in) {
        if (t->in->packed) inflateEnd(&t->in->z);
        close(t->in->fd);
        free(t->in);
    }
    free(t->buf);
    *t = (Text){0};
}

/* Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
int utf8_length(const char *bytes, size_t n) {
    const unsigned char *s = (const unsigned char *)bytes;
    if (s[0] < 0x80) return 1;
    int len = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
              : (s[0] & 0xf0) == 0xe0        ? 3
              : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                             : 0;
    if (!len) return 0;
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n) return -i;
        unsigned lo = 0x80, hi = 0xbf;
        if (i == 1) {
            if (s[0] == 0xe0) lo = 0xa0;
            if (s[0] == 0xed) hi = 0x9f;
            if (s[0] == 0xf0) lo = 0x90;
            if (s[0] == 0xf4) hi = 0x8f;
        }
        if (s[i] < lo || s[i] > hi) return 0;
    }
    return len;
}

bool utf8_valid(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        int k = utf8_length(s + i, n - i);
        if (k <= 0) return false;
        i += (size_t)k;
    }
    return true;
}

size_t utf8_whole(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        if (((unsigned char)s[n - back] & 0xc0) == 0x80) continue;
        return utf8_length(s + n - back, back) < 0 ? n - back : n;
    }
    return n;
}

/* ---- random numbers -------------------------------------------------------------------------------------- */

static inline void philox_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0,
                                uint32_t k1) {
    uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ k0;
    *c1 = (uint32_t)p1;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ k1;
    *c3 = (uint32_t)p0;
}

enum { PHILOX_ROUNDS = 10, PHILOX_K0 = 0x9E3779B9, PHILOX_K1 = 0xBB67AE85 };

void philox4x32(uint64_t key, uint64_t hi, uint64_t lo, uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)lo, c1 = (uint32_t)(lo >> 32), c2 = (uint32_t)hi, c3 = (uint32_t)(hi >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_K0, k1 += PHILOX_K1)
        philox_round(&c0, &c1, &c2, &c3, k0, k1);
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The same for counters lo, lo + 1, ...: word i of block j at w[i][j]. A loop over blocks is one the compiler
 * makes vectors of. */
enum { PHILOX_BLOCKS = 64 };
static void philox_many(uint64_t key, uint64_t hi, uint64_t lo, uint32_t w[4][PHILOX_BLOCKS]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int j = 0; j < PHILOX_BLOCKS; j++) {
        w[0][j] = (uint32_t)(lo + (uint64_t)j), w[1][j] = (uint32_t)((lo + (uint64_t)j) >> 32);
        w[2][j] = (uint32_t)hi, w[3][j] = (uint32_t)(hi >> 32);
    }
    for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_K0, k1 += PHILOX_K1)
        for (int j = 0; j < PHILOX_BLOCKS; j++) philox_round(&w[0][j], &w[1][j], &w[2][j], &w[3][j], k0, k1);
}

/* The counter's high half is (purpose, step), its low half the index: 24 bits of purpose, 40 of step. */
static void rand_block(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index, uint32_t out[4]) {
    philox4x32(seed, (uint64_t)purpose << 40 | (step & 0xffffffffffu), index, out);
}

uint32_t rand_u32(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index) {
    uint32_t r[4];
    rand_block(seed, purpose, step, index, r);
    return r[0];
}

double rand_uniform(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index) {
    uint32_t r[4];
    rand_block(seed, purpose, step, index, r);
    return (double)(((uint64_t)r[0] << 21) ^ (r[1] >> 11)) * 0x1p-53;
}

uint64_t rand_below(uint64_t seed, uint32_t purpose, uint64_t step, uint64_t index, uint64_t n) {
    uint32_t r[4];
    CHECK(n > 0);
    rand_block(seed, purpose, step, index, r);
    uint64_t x = (uint64_t)r[0] << 32 | r[1]; /* multiply-shift: the bias is below n / 2^64 */
    return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

/* Normal values by Box and Muller (1958): for uniform u, v the pair sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v).
 * The functions are short series without branches, so that the compiler makes vectors of them; the values are right
 * to 2e-6. */

/* -2 ln((w + 1/2) / 2^32): with u = 2^e z, ln z = 2 atanh((z - 1) / (z + 1)). */
static inline float minus_two_log(uint32_t w) {
    union {
        float f;
        uint32_t bits;
    } u = {.f = ((float)w + 0.5f) * 0x1p-32f};
    int32_t e = (int32_t)(u.bits - 0x3f3504f3u) >> 23; /* z lies between sqrt(1/2) and sqrt(2) */
    u.bits -= (uint32_t)e << 23;
    float s = (u.f - 1) / (u.f + 1), q = s * s;
    float log_z = 2 * s * (1 + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9)))));
    return -2 * (log_z + (float)e * 0.69314718f);
}

/* Two of them from two random words. The angle, within +-pi, is four times x: series for x, then doubled. */
static inline void normal_pair(uint32_t w0, uint32_t w1, float std, float *a, float *b) {
    float r = std * sqrtf(minus_two_log(w0));
    float x = (float)(int32_t)w1 * (0.785398163f * 0x1p-31f), q = x * x;
    float s1 = x * (1 + q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880)))));
    float c1 = 1 + q * (-1.0f / 2 + q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320))));
    float s2 = 2 * s1 * c1, c2 = 1 - 2 * s1 * s1;
    *a = r * (1 - 2 * s2 * s2);
    *b = r * (2 * s2 * c2);
}

static void normals_256(float *out, float std, uint64_t seed, uint64_t hi, uint64_t lo) {
    uint32_t w[4][PHILOX_BLOCKS];
    philox_many(seed, hi, lo, w);
    for (int j = 0; j < PHILOX_BLOCKS; j++) {
        normal_pair(w[0][j], w[1][j], std, &out[4 * j], &out[4 * j + 1]);
        normal_pair(w[2][j], w[3][j], std, &out[4 * j + 2], &out[4 * j + 3]);
    }
}

void rand_normals(float *out, size_t n, float std, uint64_t seed, uint32_t purpose, uint64_t step,
                  uint64_t first) {
    enum { AT_ONCE = 4 * PHILOX_BLOCKS };
    uint64_t hi = (uint64_t)purpose << 40 | (step & 0xffffffffffu);
    CHECK(first % 4 == 0);
    for (size_t at = 0; at < n; at += AT_ONCE) {
        float last[AT_ONCE];
        bool whole = n - at >= AT_ONCE;
        normals_256(whole ? out + at : last, std, seed, hi, (first + at) / 4);
        if (!whole) memcpy(out + at, last, (n - at) * sizeof *out);
    }
}

/* ---- time and progress ----------------------------------------------------------------------------------- */

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *human_bytes(double bytes, char buf[24]) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    while (bytes >= 1024 && u < 5) bytes /= 1024, u++;
    snprintf(buf, 24, u ? "%.2f %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

const char *human_count(double n, char buf[24]) {
    static const char *const unit[] = {"", "k", "M", "G", "T"};
    int u = 0;
    while (n >= 1000 && u < 4) n /= 1000, u++;
    snprintf(buf, 24, u ? "%.1f%s" : "%.0f%s", n, unit[u]);
    return buf;
}

const char *human_time(double seconds, char buf[24]) {
    long s = seconds < 0 ? 0 : (long)(seconds + 0.5);
    if (s < 60)
        snprintf(buf, 24, "%ld s", s);
    else if (s < 3600)
        snprintf(buf, 24, "%ld:%02ld", s / 60, s % 60);
    else
        snprintf(buf, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return buf;
}

bool progress_is_terminal(void) {
    return isatty(2) == 1;
}

void progress_line(bool final, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (final) log_line("", fmt, ap);
    va_end(ap);
    if (!note_terminal) return;
    progress_clear();
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    progress_open_line = !final && progress_is_terminal();
    if (!progress_open_line) fputc('\n', stderr);
    fflush(stderr);
}
