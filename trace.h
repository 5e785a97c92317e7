/* trace.h - floor 0: what happened when, as a Chrome trace (chrome://tracing, Perfetto). Off until trace_start. */
#ifndef GPT_TRACE_H
#define GPT_TRACE_H

#include "util.h"

void trace_start(int process); /* the rank, as the trace's pid. Forgets what was recorded before */
bool trace_is_on(void);
/* `name` and `lane` (a row of the picture: "compute", "gradients", "next", ...) are literals; times by now_seconds().
 * Any thread. */
void trace_span(const char *lane, const char *name, double begin, double end);
/* Stops. The events as JSON objects with commas between them, without brackets: those of all ranks, joined by commas
 * inside `[` and `]`, are a trace. Times are in microseconds since the clock's own zero (the boot of this host). */
void trace_stop(Str *json);

#endif
