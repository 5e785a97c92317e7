/* fuzz_safetensors.c - any bytes as a safetensors file: st_open must refuse them or give tensors that can be read.
 * Half of the inputs get the right header length in front, so that the fuzzer need not find it. */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void read_all(const SafeTensors *s) {
    for (int i = 0; i < s->n; i++) {
        const StTensor *t = &s->tensors[i];
        uint64_t n = (t->end - t->begin) / st_dtype_size(t->dtype), sum = 0;
        float x[16];
        CHECK(st_find(s, t->name) == t);
        for (uint64_t at = 0; at < n; at += 16) st_read_f32(t, at, n - at < 16 ? n - at : 16, x);
        for (uint64_t b = 0; b < t->end - t->begin; b++) sum += t->data[b];
        CHECK(sum <= 255 * (t->end - t->begin));
    }
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
    const uint8_t *end = data[0] & 1 ? memchr(data + 1, 0, n - 1) : NULL;
    uint64_t length =
        end ? (uint64_t)(end - data - 1) : n - 1; /* of the header: up to the first NUL, or all */
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    if (data[0] & 1) CHECK(write(fd, &length, sizeof length) == sizeof length);
    CHECK(write(fd, data + 1, n - 1) == (ssize_t)n - 1);
    Err e = {0};
    SafeTensors s;
    if (st_open(&s, path, &e)) {
        read_all(&s);
        st_close(&s);
    }
    return 0;
}
