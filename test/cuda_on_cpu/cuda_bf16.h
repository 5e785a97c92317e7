/* cuda_bf16.h - bfloat16 on the CPU: storage, and conversions that round to nearest, ties to even. */
#ifndef CUDA_ON_CPU_BF16_H
#define CUDA_ON_CPU_BF16_H

#include "cuda_on_cpu.h"

struct __nv_bfloat16 {
    unsigned short x;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) {
    return b.x;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) {
    return {u};
}
static inline float __bfloat162float(__nv_bfloat16 b) {
    return __uint_as_float((unsigned)b.x << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    const unsigned u = __float_as_uint(f);
    if (f != f) return {0x7fff};
    return {(unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16(float f) {
    return __float2bfloat16_rn(f);
}
static inline __nv_bfloat16 __float2bfloat16_rz(float f) {
    return {(unsigned short)(f != f ? 0x7fff : __float_as_uint(f) >> 16)};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 f) {
    return __floats2bfloat162_rn(f.x, f.y);
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
    return {x, y};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 b) {
    return {__bfloat162float(b.x), __bfloat162float(b.y)};
}
static inline float __low2float(__nv_bfloat162 b) {
    return __bfloat162float(b.x);
}
static inline float __high2float(__nv_bfloat162 b) {
    return __bfloat162float(b.y);
}

#endif
