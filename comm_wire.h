/* comm_wire.h - floor 1, private to comm*.c: what comm.c asks of those who carry, MPI (comm_mpi.c) for the job and the
 * host's memory, NCCL (comm_nccl.c) for a GPU's. */
#ifndef GPT_COMM_WIRE_H
#define GPT_COMM_WIRE_H

#include "comm.h"

#include <pthread.h>

/* Where this rank stands in a group: among the `size` ranks of one `color`. Of a group of one, nothing goes over the
 * wire, and no carrier is asked. */
typedef struct Seat {
    int color, rank, size;
} Seat;

typedef enum { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST } Kind;
/* One of the four collectives, with the arguments of comm.h. For those in place `out` is x and `in` is NULL. */
typedef struct Call {
    Kind kind;
    Group group;
    void *out;
    const void *in;
    int64_t n;
    Wire type;
    int from;
    const char *name, *lane; /* for traces and for those who ask what a rank waits for */
} Call;

static inline size_t wire_size(Wire t) {
    return t == WIRE_F64 ? 8 : t == WIRE_BF16 ? 2 : 4;
}

typedef struct Host Host; /* the ranks of one grid, by MPI */
typedef struct Job Job;
/* What carries the back end's memory. `self` is what `open` made; an error of one rank's `open` is one of all. */
typedef struct Carrier {
    void *(*open)(const Job *job, Host *h, const Seat seat[N_GROUPS], const Ops *ops, Err *e);
    void (*collective)(void *self, const Call *c, When w);
    void (*join)(void *self);
    void (*send)(void *self, Lane l, const void *x, size_t bytes);
    void (*sent)(void *self, Lane l);
    void (*recv)(void *self, Lane l, void *x, size_t bytes);
    /* Seconds the queue waited, since the last call. NULL: the calls above return when they are done, so whoever calls
     * can tell. */
    double (*exposed)(void *self);
    void (*close)(void *self);
} Carrier;

/* The job that a launcher started, and the host's memory. All calls end the job if they fail. */
struct Job {
    bool (*start)(int *rank, int *ranks, int *local_rank, int *local_ranks, Err *e);
    void (*stop)(void);
    void (*end)(int code); /* all ranks, at once; does not return */

    /* Small messages from watchdog to watchdog, by ranks of the world. Neither waits: `tell` drops what cannot leave,
     * `hear` returns false when there is nothing. */
    void (*tell)(int to, const void *x, size_t bytes);
    bool (*hear)(void *x, size_t bytes, int *from);

    Host *(*open)(const Grid *g,
                  const Seat seat[N_GROUPS]); /* all ranks of the world; NULL beyond the grid */
    void (*close)(Host *h);
    void (*broadcast)(Host *h, Group g, void *x, size_t bytes, int from);
    void (*gather)(Host *h, void *all, const void *x, size_t bytes);
    void (*max)(Host *h, double *x, int n);
    void (*barrier)(Host *h);
    void (*send)(Host *h, int to, const void *x, size_t bytes);
    void (*recv)(Host *h, int from, void *x, size_t bytes);
    Carrier carrier; /* of the host's memory; its `self` is the Host */
};
extern const Job mpi_job;

extern const Carrier nccl_carrier;

enum { WHOAMI = 96 };
const Ops *wire_ops(const Comm *c);
/* comm_fail, on behalf of another rank. */
void wire_fail(const char *whoami, const Err *e);
/* A thread that sees no signals: those are the main thread's. */
pthread_t wire_thread(void *(*run)(void *), void *arg);

/* ---- comm_watch.c ---------------------------------------------------------------------------------------- */

void watch_start(const Job *job, double seconds); /* 0: stops */
/* This rank gets on: some of what it waited for has come. */
void watch_beat(void);
/* This rank's main thread waits for others, in `call` on `lane`, until watch_goes_on. */
void watch_waits(const char *lane, const char *call);
void watch_goes_on(void);
/* From now on (poll NULL: no more) the watchdog asks at each tick what the queue of a GPU waits for; NULL: for nothing.
 * poll also ends the job if the wire has failed. */
void watch_poll(const char *(*poll)(void *), void *of);

#endif
