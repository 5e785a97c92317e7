/* ops.c - floor 1: which op table drives this run. */
#include "ops.h"

#include <string.h>

const Ops *ops_choose(const char *device, Err *e) {
    if (!strcmp(device, "cpu") || !strcmp(device, "auto")) return &cpu_ops;
    if (!strcmp(device, "cuda"))
        err_usage(e, "train.device \"cuda\": this binary was built without CUDA");
    else
        err_usage(e, "train.device \"%s\": must be \"cpu\", \"cuda\" or \"auto\"", device);
    return NULL;
}
