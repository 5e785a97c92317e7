/* sets.c - floor 1: see sets.h. */
#include "sets.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *scratch_map(const char *path, size_t bytes, Err *e) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    void *p = MAP_FAILED;
    /* Space is taken now: a full disk is an error here, not a signal at some later store. */
    int why = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)(bytes ? bytes : 1));
    if (!why && (p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        why = errno;
    if (fd >= 0) close(fd), unlink(path);
    if (why) err_set(e, "%s: cannot map %zu bytes: %s", path, bytes, strerror(why));
    return why ? NULL : p;
}

void scratch_unmap(void *p, size_t bytes) {
    if (p) munmap(p, bytes ? bytes : 1);
}

bool sets_open(Sets *s, const char *path, uint64_t n, Err *e) {
    *s = (Sets){.n = n, .parent = scratch_map(path, n * sizeof *s->parent, e)};
    for (uint64_t i = 0; i < n && s->parent; i++) s->parent[i] = i;
    return s->parent != NULL;
}

uint64_t sets_find(Sets *s, uint64_t i) {
    uint64_t *p = s->parent;
    for (; p[i] != i; i = p[i]) p[i] = p[p[i]];
    return i;
}

void sets_join(Sets *s, uint64_t i, uint64_t j) {
    i = sets_find(s, i), j = sets_find(s, j);
    s->parent[i < j ? j : i] = i < j ? i : j;
}

void sets_close(Sets *s) {
    scratch_unmap(s->parent, s->n * sizeof *s->parent);
    *s = (Sets){0};
}
