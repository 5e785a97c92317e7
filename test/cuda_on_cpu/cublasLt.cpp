/* cublasLt.cpp - matrix products as cuBLASLt defines them: D = epilogue(alpha op(A) op(B) + beta C), columns first. */
#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp8.h"
#include "inside.h"

#include <string.h>

#include <vector>

struct CublasLt {};
struct CublasLtDesc {
    cublasComputeType_t compute;
    int32_t op_a, op_b, pointer_mode;
    uint32_t epilogue;
    void *bias, *aux;
    int64_t aux_ld;
    const float *scale_a, *scale_b, *scale_c, *scale_d;
    float *amax;
    int32_t aux_type, bias_type;
};
struct CublasLtLayout {
    cudaDataType type;
    int32_t order;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch;
    int64_t stride;
};
struct CublasLtPreference {
    size_t workspace;
    uint32_t align[4];
};

/* ---- small things ---------------------------------------------------------------------------------------- */

const char *cublasLtGetStatusName(cublasStatus_t s) {
    switch (s) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "an unknown status";
}
const char *cublasLtGetStatusString(cublasStatus_t s) {
    return cublasLtGetStatusName(s);
}
size_t cublasLtGetVersion() {
    return 120000;
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
    *h = new CublasLt();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

template <typename T> static cublasStatus_t set(T *to, const void *value, size_t bytes) {
    if (!value || bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType scale) {
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *d = new CublasLtDesc();
    (*d)->compute = compute, (*d)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    (*d)->aux_type = (*d)->bias_type = -1;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                              const void *value, size_t bytes) {
    int8_t fast;
    int32_t other;
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->op_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->op_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(&d->pointer_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(&d->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(&d->aux_ld, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return set(&d->scale_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return set(&d->scale_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_C_SCALE_POINTER: return set(&d->scale_c, value, bytes);
    case CUBLASLT_MATMUL_DESC_D_SCALE_POINTER: return set(&d->scale_d, value, bytes);
    case CUBLASLT_MATMUL_DESC_AMAX_D_POINTER: return set(&d->amax, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: return set(&d->aux_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&d->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return set(&fast, value, bytes);
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET: return set(&other, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    *l = new CublasLtLayout{type, CUBLASLT_ORDER_COL, rows, cols, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t a,
                                                const void *value, size_t bytes) {
    switch (a) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set((int32_t *)&l->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(&l->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(&l->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(&l->cols, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(&l->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&l->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&l->stride, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    *p = new CublasLtPreference{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t a, const void *value,
                                                    size_t bytes) {
    uint32_t other;
    switch (a) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&p->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&p->align[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&other, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- what the library takes ------------------------------------------------------------------------------ */

static size_t size_of(int type) {
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1;
}
static bool is_fp8(int type) {
    return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2;
}

struct Product {
    CublasLtDesc d;
    CublasLtLayout A, B, C, D;
    uint64_t m, n, k;
};

/* The types that go together, from the tables of the library's manual. */
static bool types_fit(const Product &p) {
    const int a = p.A.type, b = p.B.type, c = p.C.type, d = p.D.type;
    const int bias = p.d.bias_type < 0 ? (is_fp8(a) && d == CUDA_R_32F ? CUDA_R_16BF : d) : p.d.bias_type;
    const int aux = p.d.aux_type < 0 ? d : p.d.aux_type;
    if (c != d || (d != CUDA_R_32F && d != CUDA_R_16BF) || aux != d) return false;
    if (is_fp8(a) || is_fp8(b))
        return is_fp8(a) && is_fp8(b) && !(a == CUDA_R_8F_E5M2 && b == CUDA_R_8F_E5M2) &&
               bias == CUDA_R_16BF && p.d.compute == CUBLAS_COMPUTE_32F && !p.d.scale_c && !p.d.scale_d &&
               !p.d.amax;
    if (p.d.scale_a || p.d.scale_b || p.d.scale_c || p.d.scale_d || p.d.amax) return false;
    if (a != b || bias != d) return false;
    if (a == CUDA_R_16BF)
        return p.d.compute == CUBLAS_COMPUTE_32F || p.d.compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    return a == CUDA_R_32F && d == CUDA_R_32F;
}

static bool is_matrix(const CublasLtLayout &l, uint64_t rows, uint64_t cols, int32_t batch) {
    return l.order == CUBLASLT_ORDER_COL && l.rows == rows && l.cols == cols && rows > 0 && cols > 0 &&
           l.ld >= (int64_t)rows && l.batch == batch && l.batch >= 1;
}

static bool fp8_fits(const Product &p) {
    const bool sixteens =
        p.m % 16 == 0 && p.n % 16 == 0 && p.k % 16 == 0 && p.A.ld % 16 == 0 && p.B.ld % 16 == 0;
    const bool plain = p.d.epilogue == CUBLASLT_EPILOGUE_DEFAULT || p.d.epilogue == CUBLASLT_EPILOGUE_BIAS ||
                       p.d.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS ||
                       p.d.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    return p.d.op_a == CUBLAS_OP_T && p.d.op_b == CUBLAS_OP_N && sixteens && plain;
}

static cublasStatus_t product_of(Product *p, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A,
                                 cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                 cublasLtMatrixLayout_t D) {
    *p = {*d, *A, *B, *C, *D, D->rows, D->cols, d->op_a ? A->rows : A->cols};
    const bool ta = d->op_a != CUBLAS_OP_N, tb = d->op_b != CUBLAS_OP_N;
    if (!is_matrix(*A, ta ? p->k : p->m, ta ? p->m : p->k, D->batch) ||
        !is_matrix(*B, tb ? p->n : p->k, tb ? p->k : p->n, D->batch) ||
        !is_matrix(*C, p->m, p->n, D->batch) || !is_matrix(*D, p->m, p->n, D->batch))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d->pointer_mode != CUBLASLT_POINTER_MODE_HOST || !types_fit(*p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (is_fp8(A->type) && !fp8_fits(*p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (d->epilogue & 128 && (d->aux_ld % 8 || d->aux_ld < (int64_t)p->m)) return CUBLAS_STATUS_INVALID_VALUE;
    if (D->batch > 1 && d->epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* An algorithm here is a way to cut k: each adds in an order of its own, as the library's do, so what depends on the
 * choice shows. data: which one; the bytes of workspace; the alignment that it was chosen for. */
enum { ALGORITHMS = 3 };

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                                              cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t pref, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *n) {
    Product p;
    *n = 0;
    if (!h || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t status = product_of(&p, d, A, B, C, D);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    for (uint64_t i = 0; i < ALGORITHMS && *n < wanted; i++) {
        const size_t needs = i * 4096;
        if (needs > pref->workspace) continue;
        results[*n] = {};
        results[*n].algo.data[0] = i, results[*n].algo.data[1] = needs;
        for (int j = 0; j < 4; j++) results[*n].algo.data[2 + j] = pref->align[j] < 16 ? pref->align[j] : 16;
        results[*n].workspaceSize = needs, results[*n].state = CUBLAS_STATUS_SUCCESS;
        results[*n].wavesCount = 1, ++*n;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ----------------------------------------------------------------------------------------- */

static float load(const void *p, int type, uint64_t i) {
    switch (type) {
    case CUDA_R_32F: return ((const float *)p)[i];
    case CUDA_R_16BF: return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    default:
        return cuda_fp8_float(((const unsigned char *)p)[i], type == CUDA_R_8F_E4M3 ? __NV_E4M3 : __NV_E5M2);
    }
}
static void store(void *p, int type, uint64_t i, float x) {
    if (type == CUDA_R_32F)
        ((float *)p)[i] = x;
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
}

static void check(const void *p, const CublasLtLayout &l, const char *what) {
    const uint64_t last =
        (uint64_t)(l.batch - 1) * (uint64_t)l.stride + (l.cols - 1) * (uint64_t)l.ld + l.rows;
    device_check(p, last * size_of(l.type), what);
}

/* op(X) [rows, cols] as floats; fp32 operands lose what TF32 has no bits for. */
static std::vector<float> operand(const void *p, const CublasLtLayout &l, uint64_t base, bool transposed,
                                  uint64_t rows, uint64_t cols, bool tf32) {
    std::vector<float> x(rows * cols);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++) {
            float v = load(p, l.type, base + (transposed ? c + r * (uint64_t)l.ld : r + c * (uint64_t)l.ld));
            if (tf32) v = __uint_as_float(__float_as_uint(v) & ~0x1fffu);
            x[r * cols + c] = v;
        }
    return x;
}

static float gelu(float x) {
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}
static float gelu_slope(float x) {
    const float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

static void matmul_one(const Product &p, float alpha, const void *A, const void *B, float beta, const void *C,
                       void *D, uint64_t algorithm, uint64_t batch) {
    const uint64_t m = p.m, n = p.n, k = p.k, piece = (uint64_t)16 << 2 * algorithm;
    const bool tf32 = p.d.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const uint32_t ep = p.d.epilogue;
    const int bias_type = is_fp8(p.A.type) ? CUDA_R_16BF : p.D.type;
    /* Rows of op(A)^T, so that the inner loop runs along a column of D. */
    const std::vector<float> a = operand(A, p.A, batch * (uint64_t)p.A.stride, !p.d.op_a, k, m, tf32);
    const std::vector<float> b =
        operand(B, p.B, batch * (uint64_t)p.B.stride, p.d.op_b == CUBLAS_OP_N, n, k, tf32);
    const float scale = alpha * (p.d.scale_a ? *p.d.scale_a : 1) * (p.d.scale_b ? *p.d.scale_b : 1);
    std::vector<float> sum(m), part(m), grad(m);
    for (uint64_t j = 0; j < n; j++) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (uint64_t k0 = 0; k0 < k; k0 += piece) {
            std::fill(part.begin(), part.end(), 0.0f);
            for (uint64_t i = k0; i < k && i < k0 + piece; i++)
                for (uint64_t r = 0; r < m; r++) part[r] += a[i * m + r] * b[j * k + i];
            for (uint64_t r = 0; r < m; r++) sum[r] += part[r];
        }
        for (uint64_t r = 0; r < m; r++) {
            const uint64_t at = j * (uint64_t)p.D.ld + r + batch * (uint64_t)p.D.stride;
            const uint64_t aux = j * (uint64_t)p.d.aux_ld + r;
            float x = scale * sum[r];
            if (beta != 0)
                x += beta * load(C, p.C.type, j * (uint64_t)p.C.ld + r + batch * (uint64_t)p.C.stride);
            if (ep & 4) x += load(p.d.bias, bias_type, r);
            if (ep & 32 && ep & 128) store(p.d.aux, p.D.type, aux, x);
            if (ep & 32) x = gelu(x);
            if (ep & 64) x *= gelu_slope(load(p.d.aux, p.D.type, aux));
            grad[r] += x;
            store(D, p.D.type, at, x);
        }
    }
    if (ep & 16)
        for (uint64_t r = 0; r < m; r++) store(p.d.bias, bias_type, r, grad[r]);
    if (ep & 256)
        for (uint64_t r = 0; r < m; r++) {
            float s = 0;
            for (uint64_t i = 0; i < k; i++) s += a[i * m + r];
            store(p.d.bias, bias_type, r, s);
        }
    if (ep & 512)
        for (uint64_t j = 0; j < n; j++) {
            float s = 0;
            for (uint64_t i = 0; i < k; i++) s += b[j * k + i];
            store(p.d.bias, bias_type, j, s);
        }
}

static bool aligned(const void *p, uint64_t to) {
    return (uintptr_t)p % to == 0;
}
static bool overlap(const void *a, const CublasLtLayout &la, const void *d, const CublasLtLayout &ld) {
    const size_t na = (size_t)la.ld * la.cols * size_of(la.type),
                 nd = (size_t)ld.ld * ld.cols * size_of(ld.type);
    return (const char *)a < (const char *)d + nd && (const char *)d < (const char *)a + na;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t Al, const void *B, cublasLtMatrixLayout_t Bl,
                              const void *beta, const void *C, cublasLtMatrixLayout_t Cl, void *D,
                              cublasLtMatrixLayout_t Dl, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    LOCKED;
    Product p;
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    const cublasStatus_t status = product_of(&p, d, Al, Bl, Cl, Dl);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const uint64_t which = algo ? algo->data[0] : 0, needs = algo ? algo->data[1] : 0;
    const float by = *(const float *)alpha, plus = *(const float *)beta;
    if (needs > workspace_bytes || (needs && !aligned(workspace, 16))) return CUBLAS_STATUS_INVALID_VALUE;
    const void *at[4] = {A, B, C, D};
    for (int i = 0; i < 4 && algo; i++)
        if ((i != 2 || plus != 0) && !aligned(at[i], algo->data[2 + i])) return CUBLAS_STATUS_INVALID_VALUE;
    if (d->epilogue & 128 && !aligned(d->aux, 16)) return CUBLAS_STATUS_INVALID_VALUE;
    if (d->epilogue & (4 | 16 | 256 | 512) && !d->bias) return CUBLAS_STATUS_INVALID_VALUE;
    if (overlap(A, p.A, D, p.D) || overlap(B, p.B, D, p.D)) cuda_fault("cublasLtMatmul: D lies over A or B");
    stream_put(stream, [=] {
        DeviceOpen open;
        const CublasLtLayout bias = {
            is_fp8(p.A.type) ? CUDA_R_16BF : p.D.type, 0, p.d.epilogue & 512 ? p.n : p.m, 1, 0, 1, 0};
        const CublasLtLayout aux = {p.D.type, 0, p.m, p.n, p.d.aux_ld, 1, 0};
        check(A, p.A, "cublasLtMatmul reads, of A,"), check(B, p.B, "cublasLtMatmul reads, of B,");
        if (plus != 0) check(C, p.C, "cublasLtMatmul reads, of C,");
        check(D, p.D, "cublasLtMatmul writes, of D,");
        if (p.d.epilogue & (4 | 16 | 256 | 512)) check(p.d.bias, bias, "cublasLtMatmul uses, of the bias,");
        if (p.d.epilogue & 128) check(p.d.aux, aux, "cublasLtMatmul uses, of its aux matrix,");
        for (const float *s : {p.d.scale_a, p.d.scale_b})
            if (s) device_check(s, sizeof *s, "cublasLtMatmul reads a scale,");
        device_check(workspace, needs, "cublasLtMatmul uses, of its workspace,");
        if (needs) memset(workspace, 0xff, needs);
        for (int32_t i = 0; i < p.D.batch; i++) matmul_one(p, by, A, B, plus, C, D, which, (uint64_t)i);
    });
    return CUBLAS_STATUS_SUCCESS;
}
