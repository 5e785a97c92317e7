/* trace.c - floor 0: see trace.h. */
#include "trace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct Span {
    const char *lane, *name;
    double begin, end;
} Span;

static struct {
    atomic_bool on;
    pthread_mutex_t lock; /* of all that follows */
    int process;
    Span *list;
    size_t n, cap;
} trace = {.lock = PTHREAD_MUTEX_INITIALIZER};

void trace_start(int process) {
    pthread_mutex_lock(&trace.lock);
    trace.process = process, trace.n = 0;
    trace.on = true;
    pthread_mutex_unlock(&trace.lock);
}

bool trace_is_on(void) {
    return trace.on;
}

void trace_span(const char *lane, const char *name, double begin, double end) {
    if (!trace.on) return;
    pthread_mutex_lock(&trace.lock);
    if (trace.n == trace.cap)
        trace.list = xrealloc(trace.list, (trace.cap = 2 * trace.cap + 1024) * sizeof *trace.list);
    if (trace.on) trace.list[trace.n++] = (Span){lane, name, begin, end};
    pthread_mutex_unlock(&trace.lock);
}

/* Lanes are numbered in the order in which they first appear; a viewer is told their names. */
static int lane_number(const char **lanes, int *n, const char *lane) {
    enum { MOST = 64 };
    int i = 0;
    while (i < *n && strcmp(lanes[i], lane) != 0) i++;
    CHECK(i < MOST);
    if (i == *n) lanes[(*n)++] = lane;
    return i;
}

static void put_meta(Str *s, const char *what, int lane, const char *name, int rank) {
    str_printf(s, "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"%s\",\"args\":{\"name\":\"%s",
               trace.process, lane, what, name);
    if (rank >= 0) str_printf(s, " %d", rank);
    str_puts(s, "\"}}");
}

void trace_stop(Str *json) {
    const char *lanes[64];
    int n_lanes = 0;
    pthread_mutex_lock(&trace.lock);
    trace.on = false;
    put_meta(json, "process_name", 0, "rank", trace.process);
    for (size_t i = 0; i < trace.n; i++) {
        const Span *s = &trace.list[i];
        const int known = n_lanes, lane = lane_number(lanes, &n_lanes, s->lane);
        str_puts(json, ",\n");
        if (n_lanes > known) put_meta(json, "thread_name", lane, s->lane, -1), str_puts(json, ",\n");
        str_printf(json, "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s\",\"ts\":%.3f,\"dur\":%.3f}",
                   trace.process, lane, s->name, 1e6 * s->begin, 1e6 * (s->end - s->begin));
    }
    free(trace.list);
    trace.list = NULL, trace.n = trace.cap = 0;
    pthread_mutex_unlock(&trace.lock);
}
