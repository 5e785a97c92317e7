/* harness.h - one declaration an op: its arguments, how the table is called, how the reference is, and for a backward
 * op the loss whose finite differences its gradients must equal. harness.c runs it over its shapes and precisions on
 * the table that GPT_TEST_DEVICE names (cpu, if not set; cuda).
 *
 * It asks for agreement with ref.c by normalised mean squared error, for the same bits from every number of threads and
 * every run, and for untouched memory around outputs. GPT_TEST_EXACT=1 leaves no memory around arguments, for checkers
 * that see every access. */
#ifndef GPT_TEST_OPS_HARNESS_H
#define GPT_TEST_OPS_HARNESS_H

#include "ref.h"
#include "test/unit/test.h"

enum { MAX_ARGS = 12, MAX_SHAPES = 16, MAX_DIMS = 9, MAX_GIVEN = 8 };

typedef enum { IN, OUT, INOUT } Role;
typedef enum { NUMBERS, INTS, DOUBLES } Kind; /* fp32 or bf16; int32; fp64 */

typedef struct Arg {
    const char *name;
    Role role;
    Kind kind;
    int64_t n;
    double *ref, *before; /* [n]: the reference's numbers; what stood there before the op */
    Tensor t, host;       /* [n]: the op's, in its memory, and the host's copy */
    char *block, *first;  /* the host's memory with what is around; the bits that the first run gave */
    char *device;         /* the op's */
} Arg;

typedef struct Case {
    const struct OpTest *test;
    const int *d;                 /* the shape's dimensions and flags, as the test's comment names them */
    Dtype compute, dtype, stream; /* of operands in products; of tensors; of the residual stream */
    bool exact;                   /* for finite differences: nothing is rounded */
    Arg a[MAX_ARGS];
    int n_args;
    int32_t *ids, *ids2;   /* [d[0]] tokens, targets, slots, positions */
    int32_t *dids, *dids2; /* the same in the op's memory */
    void *given[MAX_GIVEN];
    int n_given;
} Case;

typedef struct OpTest {
    const char *name;
    int shapes[MAX_SHAPES][MAX_DIMS]; /* ends with a first dimension of 0 */
    void (*args)(Case *c);
    void (*prepare)(Case *c); /* inputs that depend on others, by the reference; may be NULL */
    void (*op)(Case *c, const Ops *o);
    void (*ref)(Case *c);
    double (*loss)(Case *c); /* for gradients: sum of output times its gradient; NULL: none */
    int wrt[MAX_ARGS][2];    /* pairs (input, gradient), ends with 0, 0 */
    bool products;           /* by tensor cores: in tf32 and fp8 too, where there are such */
} OpTest;

#define T(i) (c->a[i].t)
#define F(i) ((float *)c->a[i].t.p)
#define R(i) (c->a[i].ref)

const Ops *ops(void); /* the table under test, started */
bool on_cpu(void);

double noise(uint64_t what, uint64_t i); /* [-1, 1) */
int32_t *some_ids(int64_t n, int from, int to, uint64_t what);
double weighted(const double *y, const double *dy, int64_t n);
Dropout some_dropout(bool on, uint64_t row0);

/* An argument of n numbers (0: absent), filled with noise in [-size, size) about `about`. */
void arg_add(Case *c, const char *name, Role role, int64_t n, Dtype dtype, double about, double size);
void arg_add_kind(Case *c, const char *name, Role role, int64_t n, Kind kind, double about, double size);
/* The host's bytes in the op's memory, till the case is closed. */
void *given(Case *c, const void *host, size_t bytes);
void run_test(const OpTest *t);

#define OP_TEST(what)    \
    TEST(ops_##what) {   \
        run_test(&what); \
    }

/* For tests without a case: bytes in the op's memory (host NULL: zeros), and back. device_free frees all. */
void *device(const void *host, size_t bytes);
void host(void *to, const void *from, size_t bytes);
void device_free(void);

#endif
