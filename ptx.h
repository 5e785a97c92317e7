/* ptx.h - the instructions that CUDA C++ has no words for, one function each, for sm_80 and later. Names and operands as
 * in NVIDIA's PTX ISA. test/cuda_on_cpu/ptx.h holds their twins, which do the same on a CPU. */
#ifndef GPT_PTX_H
#define GPT_PTX_H

#include <stdint.h>

/* A place in shared memory. */
typedef uint32_t SharedAt;
static __device__ inline SharedAt shared_at(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- copies that a thread need not wait for --------------------------------------------------------------- */

/* BYTES (4, 8 or 16; both places aligned to it) from global to shared memory; zeros unless `there`. Done, for this
 * thread, after a cp_async_wait; for the block, after a barrier that follows. 16 bytes bypass L1. */
template <int BYTES> static __device__ inline void cp_async(SharedAt to, const void *from, bool there) {
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES),
                     "r"(there ? BYTES : 0)
                     : "memory");
}
/* Closes a group of copies. */
static __device__ inline void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until all groups but the last N are done. */
template <int N> static __device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- matrices spread over a warp -------------------------------------------------------------------------- */

/* Four 8 x 8 matrices of 16-bit numbers: lane 8 i + j says where row j of matrix i lies (16 bytes, aligned); lane
 * 4 g + t gets in r[i] the elements 2 t and 2 t + 1 of row g. */
static __device__ inline void ldmatrix_x4(uint32_t r[4], SharedAt row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
/* The same of the matrices turned over: lane 4 g + t gets the elements g of rows 2 t and 2 t + 1. */
static __device__ inline void ldmatrix_x4_trans(uint32_t r[4], SharedAt row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* c [16, 8] += a [16, 16] b [16, 8], bf16 into fp32. Lane 4 g + t holds, two neighbours along k in a register: of a the
 * rows g and g + 8 at k = 2 t (a[0], a[1]) and 2 t + 8 (a[2], a[3]); of b column g at k = 2 t (b0) and 2 t + 8 (b1); of
 * c columns 2 t and 2 t + 1 of row g (c[0], c[1]) and of row g + 8 (c[2], c[3]). */
static __device__ inline void mma_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- arithmetic ------------------------------------------------------------------------------------------- */

/* Two numbers rounded to bf16, to nearest, the first in the lower half. */
static __device__ inline uint32_t pack_bf16(float low, float high) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
/* 2^x, right to 2 units in the last place; results below 2^-126 are 0. */
static __device__ inline float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
