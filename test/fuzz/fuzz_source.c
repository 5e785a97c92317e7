/* fuzz_source.c - any bytes as a file of each kind: documents within bounds, problems at offsets within the file. The
 * first byte chooses the kind. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void tell(void *ctx, const char *file, const Problem *p) {
    (void)file;
    CHECK(p->offset <= *(size_t *)ctx && p->what[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    enum { LONGEST = 1000 };
    static const char *const kinds[] = {".warc", ".jsonl", ".txt", ".html"};
    char path[64];
    Err e = {0};
    RawDoc doc = {0};
    size_t most = n * 1100; /* gzip's best */
    if (!n) return 0;
    snprintf(path, sizeof path, "/tmp/fuzz_source_%d%s", (int)getpid(), kinds[data[0] % 4]);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data + 1, 1, n - 1, f) == n - 1 && fclose(f) == 0);
    Source *s = source_open(path, LONGEST, tell, &most, &e);
    CHECK(s, "%s", e.msg);
    while (source_next(s, &doc)) CHECK(doc.data.n <= LONGEST && doc.offset <= source_offset(s));
    source_close(s);
    raw_free(&doc);
    unlink(path);
    return 0;
}
