/* test_comm.c - the grid's arithmetic, and a communicator of one. What goes over the wire: test/parallel. */
#include "comm.h"
#include "test.h"

#include <string.h>

TEST(comm_grid_at) {
    const Grid g = grid_at(2, 3, 4, 17); /* 17 = (1 * 2 + 0) * 4 + 1 */
    EXPECT(g.ranks == 24 && g.rank == 17 && g.dp == 2 && g.pp == 3 && g.tp == 4);
    EXPECT(g.pp_rank == 2 && g.dp_rank == 0 && g.tp_rank == 1);
    for (int r = 0; r < 24; r++) {
        const Grid at = grid_at(2, 3, 4, r);
        EXPECT((at.pp_rank * 2 + at.dp_rank) * 4 + at.tp_rank == r);
        EXPECT(at.tp_rank < 4 && at.dp_rank < 2 && at.pp_rank < 3);
        EXPECT(grid_is_root(&at) == (r == 0));
    }
}

/* Sizes and places follow from the grid alone, so one process can see those of many. */
TEST(comm_of_one) {
    Err e = {0};
    const Grid g = GRID_OF_ONE;
    Comm *c = comm_open(&g, &cpu_ops, false, &e);
    EXPECT(c != NULL);
    for (int i = 0; i < N_GROUPS; i++) EXPECT(comm_size(c, (Group)i) == 1 && comm_rank(c, (Group)i) == 0);
    float x[4] = {1, 2, 3, 4}, y[4] = {0}, all[4] = {0};
    comm_all_reduce(c, GROUP_WORLD, x, 4, WIRE_F32, NOW);
    comm_all_gather(c, GROUP_TENSOR, y, x, 4, WIRE_F32, BEHIND);
    comm_reduce_scatter(c, GROUP_DATA, x, x, 4, WIRE_F32, BEHIND);
    comm_broadcast(c, GROUP_TIED, x, 4, WIRE_F32, 0, NOW);
    comm_join(c);
    comm_host_gather(c, all, x, sizeof x);
    EXPECT(x[0] == 1 && x[3] == 4 && !memcmp(x, y, sizeof x) && !memcmp(x, all, sizeof x));
    EXPECT(comm_agree(c, true, &e));
    EXPECT(!comm_agree(c, err_set(&e, "no"), &e));
    EXPECT_ERR(&e, "no");
    EXPECT(comm_exposed(c) == 0);
    EXPECT(comm_self_test(c, &e), "%s", e.msg);
    comm_close(c);
}

TEST(comm_too_many) {
    Err e = {0};
    const Grid g = grid_at(2, 2, 1, 0);
    EXPECT(comm_open(&g, &cpu_ops, false, &e) == NULL);
    EXPECT_ERR(&e, "a grid of 2 x 2 x 1 needs 4 ranks, and there is 1");
}
