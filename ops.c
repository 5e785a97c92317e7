/* ops.c - floor 1: which op table drives this run. The one place that knows whether CUDA was compiled in. */
#include "ops.h"

#include "cuda_sizes.h"

#include <string.h>

const char *const dtype_names[] = {"fp32", "bf16", "tf32", "fp8"};

bool ops_precision(const Ops *ops, const char *name, Dtype *compute, Err *e) {
    *compute = ops->has(DT_BF16) ? DT_BF16 : DT_F32;
    if (!strcmp(name, "auto")) return true;
    for (*compute = DT_F32; strcmp(name, dtype_names[*compute]);) ++*compute;
    if (*compute == DT_BF16 && !ops->has(DT_BF16))
        note("this machine has no bf16 products: precision bf16 is right but slow here");
    if (*compute <= DT_BF16 || ops->has(*compute)) return true;
    return err_usage(e, "precision %s: not on this device (%s); bf16 and fp32 are", name, ops->name);
}

static int gpu_to_take;

void ops_take_gpu(int which) {
    gpu_to_take = which;
}
int ops_gpu(void) {
    return gpu_to_take;
}

#ifdef GPT_CUDA
extern const Ops cuda_ops;

/* Starting it is how one finds out whether it can be used. */
static const Ops *choose_gpu(bool must, Err *e) {
    Err why = {0};
    if (cuda_ops.start(0, &why)) return &cuda_ops;
    if (!must) return note("on the CPU: %s", why.msg), &cpu_ops;
    *e = why;
    return NULL;
}
#else
static const Ops *choose_gpu(bool must, Err *e) {
    if (!must) return &cpu_ops;
    err_usage(e, "train.device \"cuda\": this binary was built without CUDA");
    return NULL;
}
#endif

const Ops *ops_choose(const char *device, Err *e) {
    if (!strcmp(device, "cpu")) return &cpu_ops;
    if (!strcmp(device, "cuda") || !strcmp(device, "auto")) return choose_gpu(!strcmp(device, "cuda"), e);
    err_usage(e, "train.device \"%s\": must be \"cpu\", \"cuda\" or \"auto\"", device);
    return NULL;
}

static bool has_all(Dtype compute) {
    (void)compute;
    return true;
}
static void free_no_linear(Linear *l) {
    CHECK(!l);
}
static void free_no_graph(Graph *g) {
    CHECK(!g);
}
static void release_nothing(void *p) {
    CHECK(!p);
}

const Ops ops_to_plan = {.name = "cuda",
                         .logits_bytes = CUDA_LOGITS_BYTES,
                         .has = has_all,
                         .stream = cuda_stream_dtype,
                         .mirror = cuda_has_mirror,
                         .linear_bytes = cuda_linear_total,
                         .linear_free = free_no_linear,
                         .graph_free = free_no_graph,
                         .release = release_nothing};
