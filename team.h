/* team.h - floor 1: the ranks of a job as a team that shares files: commands that work file by file deal them out, and
 * rank 0 does what needs the whole run. All ranks see the same folders. Without team_open, a process is a team of one.
 *
 * Every rank makes the same calls of team_agree, one of them last of all; where none has failed they stand for barriers:
 * what a rank wrote before, all can read after. */
#ifndef GPT_TEAM_H
#define GPT_TEAM_H

#include "util.h"

/* Joins the ranks that a launcher started. All but rank 0 stop telling people what they do. */
bool team_open(Err *e);
void team_close(void);
int team_size(void);
int team_rank(void);
static inline bool team_is_root(void) { /* the rank that does what only one may do */
    return team_rank() == 0;
}

/* comm_agree. After an error all ranks are on their way out, and further calls return false at once, so a rank that
 * failed early need not know what the others were about to agree on. */
bool team_agree(bool ok, Err *e);

/* Which of n pieces of work are a rank's: the largest first, each to the rank with the least so far. malloc'd. */
bool *team_deal(const uint64_t *size, int n, int ranks, int rank);

/* From any rank to rank 0, in order; the sender waits. s is malloc'd by the receiver. */
void team_tell_root(const Str *s);
void team_hear(int from, Str *s);
#endif
