/* fuzz_shard.c - any bytes as a token shard: it is refused, or every row and a look inside can be had of it. The
 * first byte says which of the header's promises are kept for the fuzzer, so that it need not find them. */
#include "dataloader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void put_le32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

enum { MAGIC = 1, COUNT = 2, WIDE = 4, CRC = 8, SHUFFLE = 16 };

static void keep_promises(uint8_t *shard, size_t n, int what) {
    if (n < SHARD_HEADER) return;
    size_t bytes = n - SHARD_HEADER, width = what & WIDE ? 4 : 2;
    if (what & MAGIC) put_le32(shard, SHARD_MAGIC), put_le32(shard + 4, 1);
    if (what & COUNT) {
        put_le32(shard + 8, (uint32_t)(bytes / width));
        put_le32(shard + 12, (uint32_t)width);
        memset(shard + 24, 0, 8);
    }
    if (what & CRC) {
        put_le32(shard + 16, 1);
        put_le32(shard + 20, crc32_of(0, shard + SHARD_HEADER, bytes));
    }
}

static void read_rows(const char *path, bool shuffle) {
    enum { T = 3 };
    Err e = {0};
    int32_t x[2 * T], y[2 * T];
    Source twice[] = {{path, 1}, {path, 0.3}};
    Loader *l = loader_open(twice, 2, T, shuffle, 7, 50257, &e);
    for (uint64_t q = 0; l && q < 2 * loader_sequences(l) && loader_rows(l, q, 2, x, y, &e); q += 2) {
        for (int i = 0; i < 2 * T; i++) CHECK(x[i] >= 0 && x[i] < 50257 && y[i] >= 0 && y[i] < 50257);
        loader_prefetch(l, q, 2);
    }
    CHECK(l || e.code);
    loader_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd = -1; /* one file in memory, written again for each input */
    static const char *path;
    if (fd < 0) {
        Str s = {0};
        fd = memfd_create("fuzz", 0);
        str_printf(&s, "/proc/self/fd/%d", fd);
        path = s.p;
    }
    if (n == 0) return 0;
    uint8_t *shard = memcpy(xmalloc(n), data, n);
    keep_promises(shard + 1, n - 1, shard[0]);
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, shard + 1, n - 1, 0) == (ssize_t)n - 1);
    Err e = {0};
    Str out = {0};
    CHECK(shard_inspect(path, true, 2, 0, NULL, NULL, &out, &e) || e.code);
    str_free(&out);
    read_rows(path, shard[0] & SHUFFLE);
    free(shard);
    return 0;
}
