/* team.c - floor 1: see team.h. */
#include "team.h"
#include "comm.h"

#include <stdlib.h>
#include <string.h>

static struct {
    Comm *comm; /* NULL: alone */
    bool failed;
} team;

bool team_open(Err *e) {
    if (!comm_start(e)) return false;
    if (comm_world() == 1) return true;
    const Grid g = grid_at(comm_world(), 1, 1, comm_world_rank());
    team.comm = comm_open(&g, &cpu_ops, false, e);
    note_to(grid_is_root(&g), -1);
    return team.comm != NULL;
}

void team_close(void) {
    comm_close(team.comm);
    team.comm = NULL;
    comm_stop();
}

int team_size(void) {
    return team.comm ? comm_grid(team.comm)->ranks : 1;
}
int team_rank(void) {
    return team.comm ? comm_grid(team.comm)->rank : 0;
}

bool team_agree(bool ok, Err *e) {
    if (team.comm && !team.failed) team.failed = !(ok = comm_agree(team.comm, ok, e));
    return ok && !team.failed;
}

typedef struct Piece {
    uint64_t size;
    int number;
} Piece;

static int larger_first(const void *a, const void *b) {
    const Piece *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->number - y->number;
}

bool *team_deal(const uint64_t *size, int n, int ranks, int rank) {
    bool *mine = xcalloc((size_t)n + 1, sizeof *mine);
    Piece *piece = xmalloc(((size_t)n + 1) * sizeof *piece);
    uint64_t *load = xcalloc((size_t)ranks, sizeof *load);
    for (int i = 0; i < n; i++) piece[i] = (Piece){size[i], i};
    qsort(piece, (size_t)n, sizeof *piece, larger_first);
    for (int i = 0; i < n; i++) {
        int least = 0;
        for (int r = 1; r < ranks; r++)
            if (load[r] < load[least]) least = r;
        load[least] += piece[i].size + 1; /* a file costs something even if it is empty */
        mine[piece[i].number] = least == rank;
    }
    free(piece), free(load);
    return mine;
}

void team_tell_root(const Str *s) {
    const uint64_t n = s->n;
    comm_host_send(team.comm, 0, &n, sizeof n);
    if (n) comm_host_send(team.comm, 0, s->p, s->n);
}

void team_hear(int from, Str *s) {
    uint64_t n;
    comm_host_recv(team.comm, from, &n, sizeof n);
    *s = (Str){xmalloc(n + 1), n, n + 1};
    if (n) comm_host_recv(team.comm, from, s->p, n);
    s->p[n] = 0;
}
