/* fault.c - a job in which something goes wrong at one rank; see faults.sh. fault KIND RANK: steps as of training, with
 * the watchdog set to 3 seconds, and in one of them RANK is killed, is stopped, hangs, fails, or leaves out a call. Or it
 * is only slow, which must not end the job; neither must a job that is paused as a whole. */
#include "comm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Many times the watchdog's limit, in short pieces of work. */
static void work_slowly(void) {
    for (int i = 0; i < 30; i++) {
        comm_alive("slow work");
        usleep(300000);
    }
}

static void go_wrong(const char *kind, Comm *c) {
    Err e = {0};
    if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(kind, "stop")) kill(getpid(), SIGSTOP);
    if (!strcmp(kind, "hang")) comm_alive("a daydream"), sleep(1000);
    if (!strcmp(kind, "leave-out")) comm_barrier(c);
    if (!strcmp(kind, "slow")) work_slowly();
    if (!strcmp(kind, "fail")) err_usage(&e, "the disk is full"), comm_fail(&e);
}

int main(int argc, char **argv) {
    Err e = {0};
    if (argc != 3 || !comm_start(&e)) return fprintf(stderr, "usage: fault KIND RANK; %s\n", e.msg), 2;
    const Grid g = grid_at(1, 1, comm_world(), comm_world_rank());
    Comm *c = comm_open(&g, &cpu_ops, false, &e);
    CHECK(c, "%s", e.msg);
    float x[1000] = {0};
    comm_watch(3);
    fprintf(stderr, "pid %d\n", (int)getpid());
    for (int step = 0; step < 100; step++) {
        comm_alive("step");
        if (step == 20 && g.rank == atoi(argv[2])) go_wrong(argv[1], c);
        comm_all_reduce(c, GROUP_TENSOR, x, 1000, WIRE_F32, NOW);
        usleep(10000);
    }
    comm_watch(0);
    comm_barrier(c);
    comm_close(c);
    if (g.rank == 0) fprintf(stderr, "all steps done\n");
    comm_stop();
}
