/* cuda_fp8.h - e4m3 and e5m2 on the CPU (Micikevicius et al. 2022): conversions that saturate and round to nearest. */
#ifndef CUDA_ON_CPU_FP8_H
#define CUDA_ON_CPU_FP8_H

#include "cuda_on_cpu.h"

typedef unsigned char __nv_fp8_storage_t;
typedef unsigned short __nv_fp8x2_storage_t;
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };

static inline float cuda_fp8_float(__nv_fp8_storage_t b, __nv_fp8_interpretation_t kind) {
    const int m_bits = kind == __NV_E4M3 ? 3 : 2, bias = kind == __NV_E4M3 ? 7 : 15;
    const int e = (b & 0x7f) >> m_bits, m = b & ((1 << m_bits) - 1), e_max = (1 << (7 - m_bits)) - 1;
    const float sign = b & 0x80 ? -1.0f : 1.0f;
    if (kind == __NV_E4M3 ? (b & 0x7f) == 0x7f : e == e_max && m) return NAN;
    if (kind == __NV_E5M2 && e == e_max) return sign * INFINITY;
    return sign *
           (e ? ldexpf((float)(m + (1 << m_bits)), e - bias - m_bits) : ldexpf((float)m, 1 - bias - m_bits));
}

static inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float x, __nv_saturation_t,
                                                       __nv_fp8_interpretation_t kind) {
    const int m_bits = kind == __NV_E4M3 ? 3 : 2, bias = kind == __NV_E4M3 ? 7 : 15;
    const float most = kind == __NV_E4M3 ? 448.0f : 57344.0f, a = fabsf(x);
    const unsigned sign = signbit(x) ? 0x80 : 0;
    if (x != x) return (__nv_fp8_storage_t)(sign | 0x7f);
    int e = 0;
    frexpf(a < most ? a : most, &e);
    const int exponent =
        e - 1 < 1 - bias ? 1 - bias : e - 1; /* of the last place, with that many bits behind it */
    const unsigned steps = (unsigned)rintf(ldexpf(a < most ? a : most, m_bits - exponent));
    /* In units of the last place numbers are counted through, from the subnormal ones on. */
    return (__nv_fp8_storage_t)(sign | (steps + ((unsigned)(exponent + bias - 1) << m_bits)));
}
static inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 x, __nv_saturation_t s,
                                                            __nv_fp8_interpretation_t kind) {
    return (__nv_fp8x2_storage_t)(__nv_cvt_float_to_fp8(x.x, s, kind) | __nv_cvt_float_to_fp8(x.y, s, kind)
                                                                            << 8);
}

#endif
