/* fuzz_gzip.c - any bytes as a text file, which may be gzip'd: it is refused, or read to its end, by lines as by
 * blocks. With an odd first byte the input is what the program should read: it is compressed here, then damaged if
 * the second byte says so, and undamaged it must come out as it went in. */
#include "util.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

static int fd = -1; /* one file in memory, written again for each input */
static char path[32];

static void write_file(const uint8_t *data, size_t n) {
    if (fd < 0) {
        Str s = {0};
        fd = memfd_create("fuzz", 0);
        str_printf(&s, "/proc/self/fd/%d", fd);
        memcpy(path, s.p, s.n + 1);
        str_free(&s);
    }
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
}

static size_t compress_gz(const uint8_t *data, size_t n, uint8_t *out, size_t cap) {
    z_stream z = {0};
    CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (Bytef *)data, z.avail_in = (uInt)n;
    z.next_out = out, z.avail_out = (uInt)cap;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    size_t size = z.total_out;
    deflateEnd(&z);
    return size;
}

static Str read_blocks(bool *ok) {
    static char block[4000];
    Err e = {0};
    Text t;
    Str all = {0};
    size_t n = 1;
    CHECK(text_open(&t, path, &e));
    while ((*ok = text_block(&t, block, sizeof block, &n, &e)) && n) str_put(&all, block, n);
    CHECK(*ok != (e.code != 0));
    text_close(&t);
    return all;
}

/* Reads the file by lines; *ok is whether it came to its end. */
static Str read_lines(bool *ok) {
    Err e = {0};
    Text t;
    Str all = {0};
    char *line;
    size_t n;
    uint64_t lines = 0;
    CHECK(text_open(&t, path, &e));
    while ((*ok = text_line(&t, &line, &n, &e)) && line) {
        CHECK(!memchr(line, '\n', n) && line[n] == 0 && t.line == ++lines);
        str_put(&all, line, n);
        str_puts(&all, "\n");
    }
    CHECK(*ok != (e.code != 0));
    text_close(&t);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 2) return 0;
    const uint8_t *in = data + 2;
    size_t n_in = n - 2;
    bool packed = data[0] & 1, damaged = packed && data[1] & 1, ok, whole;
    if (packed) {
        uint8_t *gz = xmalloc(n_in + 1024);
        size_t size = compress_gz(in, n_in, gz, n_in + 1024);
        if (damaged) gz[data[0] % size] ^= data[1];
        write_file(gz, damaged && data[1] & 2 ? size - data[0] % size : size);
        free(gz);
    } else {
        write_file(in, n_in);
    }
    Str all = read_blocks(&whole), lines = read_lines(&ok);
    CHECK(ok == whole);
    if (packed && !damaged) CHECK(whole && all.n == n_in && (!n_in || !memcmp(all.p, in, n_in)));
    if (whole && all.n) {
        bool ended = all.p[all.n - 1] == '\n'; /* lines are the text, but for its last line break */
        CHECK(lines.n == all.n + !ended && !memcmp(lines.p, all.p, all.n));
    }
    str_free(&all);
    str_free(&lines);
    return 0;
}
