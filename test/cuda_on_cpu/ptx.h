/* ptx.h - the twins of the instructions in the root's ptx.h, doing on the CPU exactly what those do on a GPU. */
#ifndef CUDA_ON_CPU_PTX_H
#define CUDA_ON_CPU_PTX_H

#include "cuda_bf16.h"
#include "cuda_on_cpu.h"

#endif
