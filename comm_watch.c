/* comm_watch.c - floor 1: see comm_watch in comm.h. A thread on each rank tells rank 0 every second how far its main
 * thread has come; rank 0 judges all, and rank 1 rank 0.
 *
 * Time is counted in ticks of this thread, so that a job that was stopped as a whole, and goes on, has lost none. */
#include "comm_wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a rank says of itself. */
typedef struct Pulse {
    uint64_t beats;      /* goes up while the main thread gets on */
    bool waits, left;    /* for other ranks; left: watches no more, and is not to be watched */
    char doing[64];      /* "step"; or what it waits in: "all-reduce (tensor)" */
    char whoami[WHOAMI]; /* "rank 3 (node7)" */
} Pulse;

/* What is known of another rank. Times in seconds of this thread's clock. */
typedef struct Known {
    Pulse pulse;
    double heard, moved;
} Known;

/* This rank's main thread. Names are literals. */
static struct {
    atomic_ullong beats;
    _Atomic(const char *) doing, lane, call; /* call NULL: it does not wait */
} self = {.doing = "start"};

static struct {
    const Job *job;
    double seconds, tick, clock;
    int rank, end; /* it judges ranks 0 .. end - 1 */
    Known *known;  /* [ranks] */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool running, stop;
    const char *(*poll)(void *);
    void *polled;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER, .stopped = PTHREAD_COND_INITIALIZER};

/* ---- signs of life --------------------------------------------------------------------------------------- */

void comm_alive(const char *what) {
    self.doing = what;
    self.beats++;
}

void watch_beat(void) {
    self.beats++;
}

void watch_waits(const char *lane, const char *call) {
    self.lane = lane;
    self.call = call;
    self.beats++;
}

void watch_goes_on(void) {
    self.call = NULL;
    self.beats++;
}

void watch_poll(const char *(*poll)(void *), void *of) {
    pthread_mutex_lock(&watch.lock);
    watch.poll = poll, watch.polled = of;
    pthread_mutex_unlock(&watch.lock);
}

static Pulse own_pulse(void) {
    Pulse p = {.beats = self.beats};
    const char *call = self.call, *lane = self.lane, *queue = watch.poll ? watch.poll(watch.polled) : NULL;
    p.waits = call || queue;
    if (call)
        snprintf(p.doing, sizeof p.doing, "%s (%s)", call, lane);
    else
        snprintf(p.doing, sizeof p.doing, "%s", queue ? queue : self.doing);
    snprintf(p.whoami, sizeof p.whoami, "%s", comm_whoami());
    return p;
}

/* ---- judging --------------------------------------------------------------------------------------------- */

static void note_pulse(int from, const Pulse *p) {
    Known *k = &watch.known[from];
    if (p->beats != k->pulse.beats || !k->heard) k->moved = watch.clock;
    k->pulse = *p, k->heard = watch.clock;
}

static void end_job(int rank, const Err *e) {
    char whoami[24];
    const char *known = watch.known[rank].pulse.whoami;
    snprintf(whoami, sizeof whoami, "rank %d", rank);
    wire_fail(*known ? known : whoami, e);
}

static void judge_silence(int rank, const Known *k) {
    Err e = {0};
    if (watch.clock - k->heard <= watch.seconds) return;
    if (k->heard)
        err_set(&e, "not heard from for %.0f s; last seen at: %s", watch.seconds, k->pulse.doing);
    else
        err_set(&e, "never heard from, in %.0f s", watch.seconds);
    end_job(rank, &e);
}

/* Who is silent? Else, if some have waited for too long, who of those that do not wait has not moved for longest? */
static void judge(void) {
    int waiting = 0, late = -1, watched = 0;
    Err e = {0};
    for (int r = 0; r < watch.end; r++) {
        const Known *k = &watch.known[r];
        if (k->pulse.left) continue;
        watched++;
        judge_silence(r, k);
        if (!k->heard || watch.clock - k->moved <= watch.seconds) continue;
        if (k->pulse.waits)
            waiting++;
        else if (late < 0 || k->moved < watch.known[late].moved)
            late = r;
    }
    const bool in_a_ring = waiting == watched && watch.rank == 0; /* rank 1 does not know of all */
    if (!waiting || (late < 0 && !in_a_ring)) return;
    if (late >= 0)
        err_set(&e, "others have waited for it for %.0f s; last seen at: %s", watch.seconds,
                watch.known[late].pulse.doing);
    else
        err_set(&e, "all ranks have waited for each other for %.0f s, this one in: %s", watch.seconds,
                watch.known[0].pulse.doing);
    end_job(late >= 0 ? late : 0, &e);
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

/* Everyone tells rank 0, which tells rank 1. */
static void tell(bool left) {
    Pulse p = own_pulse();
    p.left = left;
    note_pulse(watch.rank, &p);
    watch.job->tell(watch.rank == 0, &p, sizeof p);
}

/* Sleeps for a tick, or till it is to stop. */
static void sleep_tick(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    const double until = (double)t.tv_nsec * 1e-9 + watch.tick;
    t.tv_sec += (time_t)until;
    t.tv_nsec = (long)((until - (double)(time_t)until) * 1e9);
    if (!watch.stop) pthread_cond_timedwait(&watch.stopped, &watch.lock, &t);
}

static void *watch_run(void *arg) {
    double before = now_seconds();
    pthread_mutex_lock(&watch.lock);
    while (!watch.stop) {
        Pulse p;
        int from;
        const double now = now_seconds(), passed = now - before;
        watch.clock += passed < 2 * watch.tick ? passed : 2 * watch.tick;
        before = now;
        tell(false);
        while (watch.job->hear(&p, sizeof p, &from)) note_pulse(from, &p);
        judge();
        sleep_tick();
    }
    tell(true);
    pthread_mutex_unlock(&watch.lock);
    return arg;
}

pthread_t wire_thread(void *(*run)(void *), void *arg) {
    pthread_t t;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&t, NULL, run, arg) == 0, "no thread can be started");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return t;
}

static void watch_stop(void) {
    if (!watch.running) return;
    pthread_mutex_lock(&watch.lock);
    watch.stop = true;
    pthread_cond_signal(&watch.stopped);
    pthread_mutex_unlock(&watch.lock);
    pthread_join(watch.thread, NULL);
    free(watch.known);
    watch.running = watch.stop = false;
}

void watch_start(const Job *job, double seconds) {
    watch_stop();
    if (seconds <= 0) return;
    watch.job = job, watch.seconds = seconds, watch.tick = seconds < 4 ? seconds / 4 : 1, watch.clock = 0;
    watch.rank = comm_world_rank();
    watch.end = watch.rank == 0 ? comm_world() : watch.rank == 1; /* rank 1 judges rank 0 */
    watch.known = xcalloc((size_t)comm_world(), sizeof *watch.known);
    watch.running = true;
    watch.thread = wire_thread(watch_run, NULL);
}
