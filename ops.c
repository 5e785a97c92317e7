/* ops.c - floor 1: which op table drives this run. */
#include "ops.h"

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

const Ops *ops_choose(const char *device, Err *e) {
    if (!strcmp(device, "cpu") || !strcmp(device, "auto")) return &cpu_ops;
    if (!strcmp(device, "cuda"))
        err_usage(e, "train.device \"cuda\": this binary was built without CUDA");
    else
        err_usage(e, "train.device \"%s\": must be \"cpu\", \"cuda\" or \"auto\"", device);
    return NULL;
}
