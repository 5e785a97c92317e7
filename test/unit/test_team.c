/* test_team.c - how files are dealt to ranks. */
#include "team.h"
#include "test.h"
#include "words.h"

#include <stdlib.h>

/* Every piece goes to one rank, and no rank has more than the mean and the largest piece together. */
static void expect_fair(const uint64_t *size, int n, int ranks) {
    uint64_t load[16] = {0}, sum = 0, largest = 0;
    int owners[256] = {0};
    for (int r = 0; r < ranks; r++) {
        bool *mine = team_deal(size, n, ranks, r);
        for (int i = 0; i < n; i++) load[r] += mine[i] ? size[i] + 1 : 0, owners[i] += mine[i];
        free(mine);
    }
    for (int i = 0; i < n; i++) {
        EXPECT(owners[i] == 1);
        sum += size[i] + 1;
        if (size[i] > largest) largest = size[i];
    }
    for (int r = 0; r < ranks; r++) EXPECT(load[r] <= sum / (uint64_t)ranks + largest + 1);
}

TEST(team_deals_all_files_fairly) {
    uint64_t size[256];
    for (int i = 0; i < 256; i++) size[i] = hash_mix((uint64_t)i) >> (44 + i % 16);
    for (int ranks = 1; ranks <= 16; ranks++) expect_fair(size, 256, ranks);
    expect_fair(size, 3, 16);
    expect_fair(size, 0, 2);
}

TEST(team_deals_empty_files_too) {
    const uint64_t empty[4] = {0};
    for (int r = 0; r < 4; r++) {
        bool *mine = team_deal(empty, 4, 4, r);
        EXPECT(mine[0] + mine[1] + mine[2] + mine[3] == 1);
        free(mine);
    }
}

TEST(team_of_one) {
    Err e = {0};
    EXPECT(team_is_root());
    EXPECT(team_size() == 1);
    EXPECT(team_agree(true, &e));
    EXPECT(!team_agree(err_set(&e, "once"), &e));
    EXPECT(team_agree(true, &e)); /* nobody else to wait for */
}
