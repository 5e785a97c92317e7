/* stage.h - floor 2: documents in, documents out: what the `gpt data` commands that drop or change documents
 * share.
 *
 * A job reads files of documents and writes, for each, two files of lines of JSON: those that stay and those
 * that do not. Chunks of documents are worked on by all threads and written in order as gzip members of their
 * own, so the bytes depend on neither the threads nor the machine. Every part of a job that is complete is on
 * the disk under its name; a job that was killed does only what is missing, and ends with the same bytes.
 * Where there are several ranks (team.h), each has its own files, and all make the same calls.
 *
 * What cannot be read (source.h), a line that is not JSON or has no text, is told with file and offset, counted and
 * passed over; a job that finds nothing else fails. */
#ifndef GPT_STAGE_H
#define GPT_STAGE_H

#include "docs.h"

/* ---- chunks -------------------------------------------------------------------------------------------- */

typedef struct Item {
    Doc doc;    /* its text decoded */
    char *line; /* [n_line] the line of JSON as it came; NULL: plain text */
    size_t n_line;
    uint64_t offset; /* where it begins in the file's (uncompressed) bytes */
    bool bad;        /* no document: its text is empty; it has a number, but is written nowhere */
} Item;

/* The last two counts are the stage's own. */
enum { STAGE_OUTS = 2, STAGE_TALLIES = 64, TALLY_READ = STAGE_TALLIES - 2, TALLY_PROBLEMS };

typedef struct Chunk {
    uint64_t first; /* the number of its first document within the file */
    Item *items;
    int n, cap;
    size_t bytes;
    Str out[STAGE_OUTS];           /* what the work makes of it */
    uint64_t tally[STAGE_TALLIES]; /* counts, added up in any order */
    Str problems;                  /* lines for people */
} Chunk;

/* Work on one chunk, on any thread: fills `out` and `tally`. */
typedef void (*StageFn)(const void *ctx, Chunk *c);

typedef struct Stage {
    const char *key; /* the field of a .jsonl line that holds the text; NULL: "text" */
    int threads;     /* 0: all */
    bool gzip;       /* compress what is written */
    bool tell;       /* of problems; set by job_run */
    StageFn work;
    const void *ctx;
} Stage;

/* One input file. `out` are open files, or NULL where nothing is to be written; `tally` is added to. */
bool stage_file(const Stage *s, const char *path, OutFile *const out[STAGE_OUTS], uint64_t *tally, Err *e);

/* ---- lines of JSON ------------------------------------------------------------------------------------- */

void json_put_string(Str *out, const char *s, size_t n); /* quoted and escaped */
/* The line that the item came from, its text replaced if `text` is not NULL, and the members `extra`
 * (such as "\"a\": 1, \"b\": 2") added at its end if that is not NULL; with a newline. */
void item_put(Str *out, const Item *it, const char *text, size_t n, const char *extra);

/* ---- jobs ---------------------------------------------------------------------------------------------- */

typedef struct Job {
    const char *out;          /* folder */
    const char *const *files; /* the input */
    int n_files;
    const char *names[STAGE_OUTS]; /* parts are OUT/NAME_000000.jsonl.gz, ...; the second may be NULL */
    bool done;                     /* set by job_open: all is there already */
} Job;

/* Begins, or goes on with what is in job->out. `what` (JSON) says everything that the results depend on,
 * besides the input files, which are known by name, size and time of change. A folder with another job in it
 * is refused, or emptied of that job's files if `overwrite`. */
bool job_open(Job *job, const char *what, bool overwrite, Err *e);

/* ["NAME", size, time of change] of a file that results depend on. */
bool job_put_file(const char *path, Str *s, Err *e);

/* Which of the files are this rank's to work on (team.h); malloc'd. */
bool *job_deal(const Job *job);

/* Runs the stage over every file whose part is not there; `tally` [STAGE_TALLIES] is the sum over all parts.
 * The context of the work may change from file to file: `begin`, if not NULL, is called before each. */
bool job_run(const Job *job, const Stage *s, void (*begin)(void *ctx, int file), void *ctx, uint64_t *tally,
             Err *e);

/* Where intermediate results stand, "OUT/work/NAME_000000"; file < 0: "OUT/work/NAME". malloc'd. */
char *job_path(const Job *job, const char *name, int file);

/* Writes report.json, after which the job is done, and removes the intermediate results. `report` is rank 0's. */
bool job_close(const Job *job, const char *report, Err *e);
#endif
