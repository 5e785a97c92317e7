/* test_safetensors.c - safetensors.c: the reference library's file, a round trip, everything that is refused,
 * and all 16-bit floats. */
#include "safetensors.h"
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST(safetensors_opens_the_reference_librarys_file) {
    static const float x[] = {0.0f, -1.5f, 3.0f, 1e-3f, 65504.0f, -0x1p-24f}; /* make.py's values */
    Err e = {0};
    SafeTensors s;
    EXPECT(st_open(&s, "test/golden/safetensors/mixed.safetensors", &e));
    EXPECT_OK(&e);
    EXPECT(s.n == 13 && !strcmp(st_meta(&s, "format"), "pt") && !strcmp(st_meta(&s, "ключ"), "a\nb"));
    EXPECT(!st_meta(&s, "none") && !st_find(&s, "none") && !st_find(&s, "f3"));
    for (int i = 0; i < 4; i++) {
        static const char *const name[] = {"f32", "f16", "bf16", "f64"};
        const StTensor *t = st_find(&s, name[i]);
        float got[6], tail[2];
        EXPECT(t && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3, "%s", name[i]);
        if (!t) continue;
        EXPECT(st_read_f32(t, 0, 6, got) && st_read_f32(t, 4, 2, tail));
        EXPECT(!memcmp(tail, got + 4, sizeof tail), "%s", name[i]);
        for (int k = 0; k < 6; k++) {
            float want = i == 1   ? f32_from_f16(f16_from_f32(x[k]))
                         : i == 2 ? f32_from_bf16(bf16_from_f32(x[k]))
                                  : x[k];
            EXPECT(got[k] == want, "%s[%d] is %g, not %g", name[i], k, got[k], want);
        }
    }
    const StTensor *i64 = st_find(&s, "i64"), *i8 = st_find(&s, "i8"), *scalar = st_find(&s, "scalar");
    int64_t big;
    float f;
    EXPECT(i64 && memcpy(&big, i64->data, 8) && big == -((int64_t)1 << 62) && !st_read_f32(i64, 0, 1, &f));
    EXPECT(i8 && i8->dtype == ST_I8 && (int8_t)i8->data[0] == -7);
    EXPECT(scalar && scalar->rank == 0 && st_read_f32(scalar, 0, 1, &f) && f == 2.5f);
    EXPECT(st_find(&s, "empty")->begin == st_find(&s, "empty")->end &&
           st_read_f32(st_find(&s, "empty"), 0, 0, &f));
    EXPECT(st_find(&s, "a \"quoted\" näme"));
    st_close(&s);
}

/* Writes tensors NAME (n floats, counting up from `from`) to PATH. */
static void write_one(const char *path, const char *name, uint64_t n, float from) {
    Err e = {0};
    uint32_t crc;
    uint64_t bytes;
    StWriter *w = st_writer();
    st_writer_add(w, name, ST_F32, 1, &n);
    EXPECT(st_writer_begin(w, path, &e));
    for (uint64_t i = 0; i < n; i++) st_writer_put(w, &(float){from + (float)i}, 4);
    EXPECT(st_writer_commit(w, &crc, &bytes, &e));
    EXPECT_OK(&e);
}

TEST(safetensors_round_trip) {
    Err e = {0};
    SafeTensors s;
    uint32_t crc;
    uint64_t bytes;
    char *path = path_join(test_dir(), "x.safetensors");
    StWriter *w = st_writer();
    st_writer_meta(w, "key \"1\"", "a\\b\n\x01é");
    st_writer_add(w, "z", ST_F32, 2, (uint64_t[]){2, 1});
    st_writer_add(w, "a", ST_BF16, 1, (uint64_t[]){3});
    st_writer_add(w, "none", ST_U8, 2, (uint64_t[]){0, 5});
    EXPECT(st_writer_begin(w, path, &e));
    st_writer_put(w, (float[]){1, 2}, 8);
    st_writer_put(w, (uint16_t[]){0x3f80, 0x4000}, 4); /* a tensor's data may come in pieces */
    st_writer_put(w, (uint16_t[]){0xc000}, 2);
    EXPECT(!path_exists(path));
    EXPECT(st_writer_commit(w, &crc, &bytes, &e));
    EXPECT(st_open(&s, path, &e));
    EXPECT_OK(&e);
    float f[3];
    EXPECT(s.n == 3 && !strcmp(s.tensors[0].name, "a") && !strcmp(s.tensors[2].name, "z"));
    EXPECT(st_read_f32(st_find(&s, "a"), 0, 3, f) && f[0] == 1 && f[1] == 2 && f[2] == -2);
    EXPECT(st_read_f32(st_find(&s, "z"), 1, 1, f) && f[0] == 2);
    EXPECT((uintptr_t)st_find(&s, "z")->data % 8 == 0);
    EXPECT(!strcmp(st_meta(&s, "key \"1\""), "a\\b\n\x01é") && !strcmp(st_meta(&s, "format"), "pt"));
    EXPECT(bytes == s.maps[0].n && crc == crc32_of(0, s.maps[0].p, s.maps[0].n));
    st_close(&s);
    free(path);
}

TEST(safetensors_writer_leaves_nothing_behind) {
    Err e = {0};
    char *dir = xstrdup(test_dir()), *path = path_join(dir, "x");
    StWriter *w = st_writer();
    st_writer_add(w, "a", ST_F32, 0, NULL);
    EXPECT(st_writer_begin(w, path, &e));
    st_writer_put(w, "1234", 4);
    st_writer_abandon(w);
    char **names;
    int n;
    EXPECT(dir_list(dir, &names, &n, &e) && n == 0);
    names_free(names, n);
    w = st_writer();
    EXPECT(!st_writer_begin(w, "/nonexistent/x", &e));
    EXPECT_ERR(&e, "/nonexistent/x: cannot write");
    st_writer_abandon(w);
    free(path);
    free(dir);
}

TEST(safetensors_opens_folders) {
    Err e = {0};
    SafeTensors s;
    char *dir = xstrdup(test_dir()), *one = path_join(dir, "model-1.safetensors"),
         *two = path_join(dir, "model-2.safetensors");
    char *index = path_join(dir, "model.safetensors.index.json"),
         *whole = path_join(dir, "model.safetensors");
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"weight_map\":{\"a\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\"}}",
         "\"c\" is not in model-2"},
        {"{\"weight_map\":{\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\"}}",
         "\"a\" is not in model-2"},
        {"{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}", "\"a\" does not name a file"},
        {"{\"weight_map\":{\"a\":3}}", "\"a\" does not name a file"},
        {"{\"weight_map\":{\"a\":\"model-3.safetensors\"}}", "model-3.safetensors: cannot open"},
        {"{\"weight_map\":[]}", "has no weight_map"},
        {"{}", "has no weight_map"},
        {"{", "not JSON"},
    };
    EXPECT(!st_open(&s, dir, &e));
    EXPECT_ERR(&e, "model.safetensors: cannot open");
    write_one(one, "a", 2, 10);
    write_one(two, "b", 3, 20);
    const char *text =
        "{\"metadata\":{},\"weight_map\":{\"b\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\"}}";
    EXPECT(file_write(index, text, strlen(text), &e));
    EXPECT(st_open(&s, dir, &e));
    EXPECT_OK(&e);
    float f;
    EXPECT(s.n == 2 && s.n_maps == 2);
    EXPECT(st_read_f32(st_find(&s, "a"), 1, 1, &f) && f == 11);
    EXPECT(st_read_f32(st_find(&s, "b"), 2, 1, &f) && f == 22);
    st_close(&s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(file_write(index, bad[i].text, strlen(bad[i].text), &e));
        EXPECT(!st_open(&s, dir, &e), "%s", bad[i].text);
        EXPECT_ERR(&e, bad[i].message);
    }
    write_one(two, "a", 3, 20);
    EXPECT(file_write(index, text, strlen(text), &e) && !st_open(&s, dir, &e));
    EXPECT_ERR(&e, "two tensors are named \"a\"");
    write_one(whole, "w", 1, 30); /* one whole file is preferred to an index */
    EXPECT(st_open(&s, dir, &e) && s.n == 1 && st_find(&s, "w"));
    st_close(&s);
    free(dir), free(one), free(two), free(index), free(whole);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

TEST(safetensors_refuses) {
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } bad[] = {
        {"", 0, "not JSON"},
        {"{\"a\":", 0, "not JSON, from its byte 5"},
        {"[]", 0, "not a JSON object"},
        {"{} x", 0, "not JSON"},
        {"{\"\xff\":1}", 0, "not UTF-8"},
        {"{}", 1, "no tensor owns the data from byte 0"},
        {"{\"a\":1}", 0, "\"a\": not a JSON object"},
        {"{\"a\":{}}", 0, "\"a\": unknown dtype \"none\""},
        {"{\"a\":" T("F31", "[1]", "[0,4]") "}", 4, "unknown dtype \"F31\""},
        {"{\"a\":" T("f32", "[1]", "[0,4]") "}", 4, "unknown dtype \"f32\""},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "has no shape"},
        {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, "dimension 0 is not a whole number"},
        {"{\"a\":" T("F32", "[1,0.5]", "[0,4]") "}", 4, "dimension 1 is not a whole number"},
        {"{\"a\":" T("F32", "[\"1\"]", "[0,4]") "}", 4, "not a whole number"},
        {"{\"a\":" T("F32", "[18446744073709551617]", "[0,4]") "}", 4, "not a whole number"},
        {"{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "shape overflows"},
        {"{\"a\":" T("F32", "[4611686018427387904]", "[0,0]") "}", 0, "not a whole number"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 8 dimensions"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 3, "0 to 4 are outside the file's 3 bytes"},
        {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, "outside"},
        {"{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "its shape needs 8 bytes, its offsets give 4"},
        {"{\"a\":" T("F32", "[1]", "[0]") "}", 4, "must be two whole numbers"},
        {"{\"a\":" T("F32", "[1]", "[0,4,4]") "}", 4, "must be two whole numbers"},
        {"{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, "must be two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "dtype is given twice"},
        {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[3,7]") "}", 7,
         "\"a\" and \"b\" overlap"},
        {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[0,4]") "}", 4, "overlap"},
        {"{\"a\":" T("U8", "[3]", "[0,3]") ",\"b\":" T("U8", "[3]", "[4,7]") "}", 7,
         "no tensor owns the data from byte 3"},
        {"{\"a\":" T("U8", "[3]", "[1,4]") "}", 4, "no tensor owns the data from byte 0"},
        {"{\"a\":" T("U8", "[3]", "[0,3]") "}", 4, "no tensor owns the data from byte 3"},
        {"{\"a\":" T("U8", "[2]", "[0,2]") ",\"a\":" T("U8", "[2]", "[2,4]") "}", 4,
         "two tensors are named \"a\""},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not a JSON object"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ \"k\" is not a text"},
    };
    Err e = {0};
    SafeTensors s;
    char *path = path_join(test_dir(), "bad");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Str file = {0};
        uint64_t n = strlen(bad[i].header);
        str_put(&file, &n, sizeof n);
        str_puts(&file, bad[i].header);
        str_put(&file, "12345678", bad[i].data);
        EXPECT(file_write(path, file.p, file.n, &e));
        EXPECT(!st_open(&s, path, &e), "%s", bad[i].header);
        EXPECT_ERR(&e, bad[i].message);
        EXPECT(!s.n && !s.maps);
        str_free(&file);
    }
    free(path);
}

TEST(safetensors_refuses_lengths) {
    static const struct {
        const char *bytes;
        size_t n;
        off_t size;
        const char *message;
    } bad[] = {
        {"", 0, 0, "is empty"},
        {"\2\0\0\0\0\0\0", 7, 7, "too short"},
        {"\3\0\0\0\0\0\0\0{}", 10, 10, "should be 3 bytes long, the whole file has 10"},
        {"\377\377\377\377\377\377\377\377{}", 10, 10, "should be 18446744073709551615 bytes long"},
        {"\1\341\365\5\0\0\0\0", 8, 100 * 1000 * 1000 + 9, "longer than the 100 MB"},
    };
    Err e = {0};
    SafeTensors s;
    char *path = path_join(test_dir(), "bad");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(file_write(path, bad[i].bytes, bad[i].n, &e) && truncate(path, bad[i].size) == 0);
        EXPECT(!st_open(&s, path, &e));
        EXPECT_ERR(&e, bad[i].message);
    }
    free(path);
}

/* x is halfway between a and b, neighbours in a 16-bit format: it must round to the even one, and what lies on
 * either side of it to the nearer one. Together with monotony this fixes the rounding of every float. */
static bool rounds(uint16_t (*from)(float), uint16_t a, uint16_t b, float x) {
    return from(x) == (a & 1 ? b : a) && from(nextafterf(x, 0)) == a && from(nextafterf(x, INFINITY)) == b &&
           from(-x) == ((a & 1 ? b : a) | 0x8000);
}

TEST(safetensors_f16_is_exact) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = f32_from_f16((uint16_t)h);
        int exponent = h >> 10 & 31, mantissa = h & 0x3ff;
        if (exponent == 31 && mantissa) {
            EXPECT(isnan(x) && f16_from_f32(x) == (h | 0x200), "%04x", h);
            continue;
        }
        double want = exponent == 31 ? INFINITY
                      : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                     : ldexp(mantissa, -24);
        EXPECT(x == (h & 0x8000 ? -want : want) && !signbit(x) == !(h & 0x8000), "%04x is %g", h, x);
        EXPECT(f16_from_f32(x) == h, "%04x becomes %04x", h, f16_from_f32(x));
        /* above the largest, infinity takes the place of 65536 */
        float next = h == 0x7bff ? 65536 : f32_from_f16((uint16_t)(h + 1));
        if (h < 0x7c00)
            EXPECT(rounds(f16_from_f32, (uint16_t)h, (uint16_t)(h + 1), (x + next) / 2), "%04x", h);
    }
}

TEST(safetensors_bf16_is_exact) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = f32_from_bf16((uint16_t)h), back;
        uint32_t bits = h << 16, middle = bits | 0x8000;
        EXPECT(!memcmp(&x, &bits, 4), "%04x", h);
        if ((h & 0x7fff) > 0x7f80) {
            EXPECT(isnan(x) && bf16_from_f32(x) == (h | 0x40), "%04x", h);
            continue;
        }
        EXPECT(bf16_from_f32(x) == h, "%04x", h);
        memcpy(&back, &middle, 4);
        if (h < 0x7f80) EXPECT(rounds(bf16_from_f32, (uint16_t)h, (uint16_t)(h + 1), back), "%04x", h);
    }
}
