/* amx_on_cpu.h - AMX's tiles in plain C, so that cpu_kernel.c's use of them is tested on CPUs that have none. What each
 * instruction does is from Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3. What a real
 * CPU would refuse ends the program. For: make amx-on-cpu. */
#ifndef AMX_ON_CPU_H
#define AMX_ON_CPU_H

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define __AMX_BF16__ 1
/* Linux lends tiles to whoever asks. */
#define syscall(...) 0

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_BYTES = 64 };

typedef struct AmxConfig {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} AmxConfig;

/* Both belong to a thread. */
static _Thread_local AmxConfig amx_config;
static _Thread_local uint8_t amx_tile[AMX_TILES][AMX_ROWS][AMX_BYTES];

static inline void amx_require(int fine, const char *what) {
    if (fine) return;
    fprintf(stderr, "amx_on_cpu: %s\n", what);
    abort();
}

static inline void amx_config_load(const void *from) {
    AmxConfig c;
    memcpy(&c, from, sizeof c);
    amx_require(c.palette == 1 && c.start == 0, "a palette that is not 1");
    for (int i = 0; i < 14; i++) amx_require(c.reserved[i] == 0, "reserved bytes that are not 0");
    for (int t = 0; t < 16; t++)
        amx_require(t < AMX_TILES ? c.bytes[t] <= AMX_BYTES && c.rows[t] <= AMX_ROWS
                                  : c.bytes[t] == 0 && c.rows[t] == 0,
                    "a tile that is too large");
    amx_config = c;
    memset(amx_tile, 0, sizeof amx_tile);
}

static inline void amx_known(int t) {
    amx_require(amx_config.palette == 1 && amx_config.rows[t] && amx_config.bytes[t],
                "a tile without a shape");
}

static inline void amx_zero(int t) {
    amx_known(t);
    memset(amx_tile[t], 0, sizeof amx_tile[t]);
}

static inline void amx_load(int t, const void *from, int64_t stride) {
    amx_zero(t);
    for (int r = 0; r < amx_config.rows[t]; r++)
        memcpy(amx_tile[t][r], (const char *)from + r * stride, amx_config.bytes[t]);
}

static inline void amx_store(int t, void *to, int64_t stride) {
    amx_known(t);
    for (int r = 0; r < amx_config.rows[t]; r++)
        memcpy((char *)to + r * stride, amx_tile[t][r], amx_config.bytes[t]);
}

static inline float amx_bf16(const uint8_t *at) {
    const uint32_t bits = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* c [M, N] fp32 += a [M, 2 K] b [K, N, 2]: the first and the second of each pair are summed on their own. */
static inline void amx_multiply(int c, int a, int b) {
    const int M = amx_config.rows[c], N = amx_config.bytes[c] / 4, K = amx_config.bytes[a] / 4;
    amx_known(a), amx_known(b), amx_known(c);
    amx_require(c != a && c != b && a != b, "one tile as two operands");
    amx_require(amx_config.rows[a] == M && amx_config.rows[b] == K && amx_config.bytes[b] / 4 == N,
                "tiles whose shapes do not fit");
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            float sum[2] = {0, 0}, to;
            for (int k = 0; k < K; k++)
                for (int i = 0; i < 2; i++)
                    sum[i] = __builtin_fmaf(amx_bf16(&amx_tile[a][m][4 * k + 2 * i]),
                                            amx_bf16(&amx_tile[b][k][4 * n + 2 * i]), sum[i]);
            memcpy(&to, &amx_tile[c][m][4 * n], sizeof to);
            to += sum[0] + sum[1];
            memcpy(&amx_tile[c][m][4 * n], &to, sizeof to);
        }
}

#undef _tile_loadconfig
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_config_load
#define _tile_zero       amx_zero
#define _tile_loadd      amx_load
#define _tile_stored     amx_store
#define _tile_dpbf16ps   amx_multiply

#endif
