/* inside.h - what the parts of the emulator know of each other. */
#ifndef CUDA_ON_CPU_INSIDE_H
#define CUDA_ON_CPU_INSIDE_H

#include "cuda_on_cpu.h"

#include <functional>
#include <mutex>

/* One call of the interface at a time, whichever thread makes it. */
extern std::recursive_mutex cuda_lock;
#define LOCKED std::lock_guard<std::recursive_mutex> locked_(cuda_lock)

/* ---- memory (cuda_on_cpu.cpp) */

/* One region of addresses holds all device memory, so that "is it?" is one comparison. Nothing is used twice: what was
 * freed stays known as freed. The host cannot touch it while no kernel or copy runs. */
void *device_take(size_t bytes);
bool device_give(void *p); /* false: no such allocation */
bool device_owns(const void *p);
/* Ends the program unless all these bytes lie in one live allocation. */
void device_check(const void *p, size_t bytes, const char *what);
struct DeviceOpen { /* while one lives, this thread may touch device memory */
    DeviceOpen();
    ~DeviceOpen();
};

void host_pin(void *p, size_t bytes);
bool host_unpin(void *p);
bool host_pinned(const void *p, size_t bytes);

/* ---- kernels (cuda_on_cpu.cpp) */

struct Launch {
    const void *kernel, *call; /* its address; its arguments */
    size_t call_bytes, shared;
    void (*thread)(void *);
    dim3 grid, block;
};
void kernel_run(const Launch &l);

/* ---- queues (cuda_runtime.cpp) */

/* Puts work into a stream's queue, or into the graph that is being captured from it. */
cudaError_t stream_put(cudaStream_t s, std::function<void()> work);
uint64_t seed_now(); /* CUDA_ON_CPU_SEED; 0: everything in the order of its number */

#endif
