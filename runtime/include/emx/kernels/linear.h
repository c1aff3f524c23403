// SPDX-License-Identifier: Apache-2.0
// y[n][o] = clamp(b[o] + sum_k x[n][k] * w[o][k] + skip[n][o])
//
//   x  [rows][in]     w  [ceil(out/4)][in][4], zero-padded, 16-byte aligned     b  [out]
//   skip, y  [rows][out]; skip only for emx_linear_add_f32
//
// No scratch. Sums run over k in ascending order, starting from b. Tiles of up to four rows by four
// outputs: a tile reads x, then, row by row, reads skip and writes y, so y may be skip.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_LINEAR_H
#define EMX_KERNELS_LINEAR_H
#include <emx/arch.h>

typedef struct {
    int32_t rows, in, out;
    int32_t tail; // out % 4
    float lo, hi;
} emx_linear_f32_t;

// Outputs [o, o + n), n <= 4, of `rows` (1 or 4) rows.
EMX_INLINE void emx_linear_tile_f32(const emx_linear_f32_t *p, int32_t rows, int32_t o, int32_t n,
                                    const float *x, const float *skip, const float *w,
                                    const float *b, float *y)
{
    float acc[16];
    EMX_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = i < 4 * rows && (i & 3) < n ? b[o + (i & 3)] : 0.0f;
    }
    if (rows == 4) {
        emx_mac_4x4_f32(acc, x, p->in, 1, w + o * p->in, p->in);
    } else {
        emx_mac_1x4_f32(acc, x, 1, w + o * p->in, p->in);
    }
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        if (i < rows) {
            const int32_t at = i * p->out + o;
            const float *const add = skip ? skip + at : NULL;
            emx_store_4_f32(y + at, acc + 4 * i, add, p->lo, p->hi, n);
        }
    }
}

// All outputs of `rows` (1 or 4) rows.
EMX_INLINE void emx_linear_rows_f32(const emx_linear_f32_t *p, int32_t rows, const float *x,
                                    const float *skip, const float *w, const float *b, float *y)
{
    const int32_t whole = p->out - p->tail;
    for (int32_t o = 0; o < whole; o += 4) {
        emx_linear_tile_f32(p, rows, o, 4, x, skip, w, b, y);
    }
    if (p->tail) {
        emx_linear_tile_f32(p, rows, whole, p->tail, x, skip, w, b, y);
    }
}

EMX_INLINE void emx_linear_add_f32(const emx_linear_f32_t *p, const float *x, const float *skip,
                                   const float *w, const float *b, float *y)
{
    int32_t n = 0;
    for (; n + 4 <= p->rows; n += 4) {
        const float *const add = skip ? skip + n * p->out : NULL;
        emx_linear_rows_f32(p, 4, x + n * p->in, add, w, b, y + n * p->out);
    }
    for (; n < p->rows; n++) {
        const float *const add = skip ? skip + n * p->out : NULL;
        emx_linear_rows_f32(p, 1, x + n * p->in, add, w, b, y + n * p->out);
    }
}

EMX_INLINE void emx_linear_f32(const emx_linear_f32_t *p, const float *x, const float *w,
                               const float *b, float *y)
{
    emx_linear_add_f32(p, x, NULL, w, b, y);
}

#endif
