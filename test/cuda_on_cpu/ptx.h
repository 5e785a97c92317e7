/* ptx.h - the twins of the instructions in the root's ptx.h, doing on the CPU exactly what those do on a GPU. */
#ifndef CUDA_ON_CPU_PTX_H
#define CUDA_ON_CPU_PTX_H

#include "cuda_bf16.h"
#include "cuda_on_cpu.h"

typedef unsigned char *SharedAt;
static inline SharedAt shared_at(const void *p) {
    return (SharedAt) const_cast<void *>(p);
}

/* ---- copies that a thread need not wait for --------------------------------------------------------------- */

/* A copy is done as late as its wait allows, so that who does not wait reads NaNs, which are written when it is issued: so
 * early that who has not met those that still read the place before is found out, too. */
struct AsyncCopy {
    SharedAt to;
    const void *from;
    bool there;
    void (*copy)(SharedAt, const void *, bool);
};
struct AsyncCopies { /* of one thread, the oldest at `first` */
    enum { MOST = 256 };
    uint64_t block;
    unsigned first, n;
    AsyncCopy at[MOST]; /* a NULL copy closes a group */
};

static inline AsyncCopies &async_copies() {
    static AsyncCopies of[1024];
    AsyncCopies &mine = of[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
    if (mine.block != cuda_block_number()) {
        if (mine.n) cuda_fault("a thread of an earlier block ended without waiting for its cp.async");
        mine.block = cuda_block_number();
    }
    return mine;
}

static inline void async_put(const AsyncCopy &c) {
    AsyncCopies &mine = async_copies();
    if (mine.n == AsyncCopies::MOST) cuda_fault("more than %d cp.async under way", AsyncCopies::MOST);
    mine.at[(mine.first + mine.n++) % AsyncCopies::MOST] = c;
}

template <int BYTES> struct alignas(BYTES) AsyncBytes { uint32_t word[BYTES / 4]; };

template <int BYTES> static inline void cp_async(SharedAt to, const void *from, bool there) {
    AsyncBytes<BYTES> nans;
    if ((uintptr_t)to % BYTES || (uintptr_t)from % BYTES)
        cuda_fault("misaligned: cp.async of %d bytes", BYTES);
    for (uint32_t &w : nans.word) w = ~0u;
    *(AsyncBytes<BYTES> *)to = nans;
    async_put({to, from, there, [](SharedAt t, const void *f, bool all) {
                   AsyncBytes<BYTES> bytes = {};
                   if (all) bytes = *(const AsyncBytes<BYTES> *)f;
                   *(AsyncBytes<BYTES> *)t = bytes;
               }});
}

static inline void cp_async_commit() {
    async_put({nullptr, nullptr, false, nullptr});
}

template <int N> static inline void cp_async_wait() {
    AsyncCopies &mine = async_copies();
    int groups = 0;
    for (unsigned i = 0; i < mine.n; i++) groups += !mine.at[(mine.first + i) % AsyncCopies::MOST].copy;
    for (; groups > N; mine.first++, mine.n--) {
        const AsyncCopy c = mine.at[mine.first % AsyncCopies::MOST];
        if (c.copy)
            c.copy(c.to, c.from, c.there);
        else
            groups--;
    }
}

/* ---- matrices spread over a warp -------------------------------------------------------------------------- */

struct MatrixLoad {
    uint16_t row[8]; /* the row this lane names */
    uint32_t *r;
};

static inline void ldmatrix(const char *what, uint32_t r[4], SharedAt row,
                            void (*all)(MatrixLoad **, unsigned)) {
    struct alignas(16) Row {
        uint16_t x[8];
    };
    MatrixLoad mine;
    if ((uintptr_t)row % 16) cuda_fault("misaligned: a row of ldmatrix");
    const Row x = *(const Row *)row;
    for (int i = 0; i < 8; i++) mine.row[i] = x.x[i];
    mine.r = r;
    warp_together<MatrixLoad>(what, 0xffffffffu, &mine, all);
}

static inline void ldmatrix_x4(uint32_t r[4], SharedAt row) {
    ldmatrix("ldmatrix", r, row, [](MatrixLoad **lane, unsigned) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                const uint16_t *x = lane[8 * i + l / 4]->row + 2 * (l % 4);
                lane[l]->r[i] = x[0] | (uint32_t)x[1] << 16;
            }
    });
}

static inline void ldmatrix_x4_trans(uint32_t r[4], SharedAt row) {
    ldmatrix("ldmatrix.trans", r, row, [](MatrixLoad **lane, unsigned) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                const int at = 8 * i + 2 * (l % 4);
                lane[l]->r[i] = lane[at]->row[l / 4] | (uint32_t)lane[at + 1]->row[l / 4] << 16;
            }
    });
}

struct MatrixProduct {
    float *c;
    uint32_t a[4], b[2];
};

static inline float bf16_half(uint32_t two, int which) {
    return __uint_as_float(which ? two & 0xffff0000u : two << 16);
}

static inline void mma_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    MatrixProduct mine = {c, {a[0], a[1], a[2], a[3]}, {b0, b1}};
    warp_together<MatrixProduct>("mma.m16n8k16", 0xffffffffu, &mine, [](MatrixProduct **lane, unsigned) {
        float a[16][16], b[16][8];
        for (int l = 0; l < 32; l++)
            for (int j = 0; j < 2; j++) {
                const int g = l / 4, k = l % 4 * 2 + j;
                for (int i = 0; i < 4; i++) a[g + i % 2 * 8][k + i / 2 * 8] = bf16_half(lane[l]->a[i], j);
                for (int i = 0; i < 2; i++) b[k + i * 8][g] = bf16_half(lane[l]->b[i], j);
            }
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                float sum = 0;
                for (int k = 0; k < 16; k++) sum += a[l / 4 + i / 2 * 8][k] * b[k][l % 4 * 2 + i % 2];
                lane[l]->c[i] += sum;
            }
    });
}

/* ---- arithmetic ------------------------------------------------------------------------------------------- */

static inline uint32_t pack_bf16(float low, float high) {
    return __float2bfloat16_rn(low).x | (uint32_t)__float2bfloat16_rn(high).x << 16;
}
static inline float exp2_approx(float x) {
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}

#endif
