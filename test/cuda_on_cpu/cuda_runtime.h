/* cuda_runtime.h - found in place of NVIDIA's when kernels are to run on the CPU. */
#include "cuda_on_cpu.h"
