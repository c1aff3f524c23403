// SPDX-License-Identifier: Apache-2.0
// y[n][o] = clamp(b[o] + sum_k x[n][k] * w[o][k] + skip[n][o])
//
//   x  [rows][in]     w  [ceil(out/L)][in][L], zero-padded, 16-byte aligned
//   b  [ceil(out/L)*L], zero-padded
//   skip, y  [rows][out]; skip only for emx_linear_add_f32
//
// L is EMX_LANES. No scratch. Sums run over k in ascending order, starting from b. Tiles
// (emx/tile.h) of EMX_TILE_PIXELS rows, then of one: a tile reads x, then, row by row, reads skip
// and writes y, so y may be skip.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_LINEAR_H
#define EMX_KERNELS_LINEAR_H
#include <emx/tile.h>

typedef struct {
    int32_t rows, in, out;
    int32_t tail; // out % L
    float lo, hi;
} emx_linear_f32_t;

// `rows` rows by `columns` columns from output o on; `lanes` < L of a last column not whole.
EMX_INLINE void emx_linear_tile_f32(const emx_linear_f32_t *p, int rows, int columns, int lanes,
                                    int32_t o, const float *x, const float *skip, const float *w,
                                    const float *b, float *y)
{
    emx_tile_f32_t t;
    const float *at[EMX_TILE_PIXELS];
    EMX_UNROLL
    for (int i = 0; i < rows; i++) {
        at[i] = x + i * p->in;
    }
    emx_tile_start_f32(&t, rows, columns, b + o);
    emx_mac_f32(t.sum, rows, columns, at, 1, w + o * p->in, p->in * EMX_LANES, p->in);
    emx_tile_store_f32(&t, rows, columns, rows, skip ? skip + o : NULL, y + o, p->out, p->lo, p->hi,
                       lanes);
}

// As many tiles of `columns` columns as fit from output o on; returns the first output not done.
EMX_INLINE int32_t emx_linear_columns_f32(const emx_linear_f32_t *p, int rows, int columns,
                                          int32_t o, const float *x, const float *skip,
                                          const float *w, const float *b, float *y)
{
    if (columns > 0) {
        for (; o + columns * EMX_LANES <= p->out; o += columns * EMX_LANES) {
            emx_linear_tile_f32(p, rows, columns, EMX_LANES, o, x, skip, w, b, y);
        }
    }
    return o;
}

// All outputs of `rows` rows.
EMX_INLINE void emx_linear_rows_f32(const emx_linear_f32_t *p, int rows, const float *x,
                                    const float *skip, const float *w, const float *b, float *y)
{
    int32_t o = emx_linear_columns_f32(p, rows, emx_tile_columns(rows, 0), 0, x, skip, w, b, y);
    o = emx_linear_columns_f32(p, rows, emx_tile_columns(rows, 1), o, x, skip, w, b, y);
    o = emx_linear_columns_f32(p, rows, emx_tile_columns(rows, 2), o, x, skip, w, b, y);
    if (p->tail) {
        emx_linear_tile_f32(p, rows, 1, p->tail, o, x, skip, w, b, y);
    }
}

EMX_INLINE void emx_linear_add_f32(const emx_linear_f32_t *p, const float *x, const float *skip,
                                   const float *w, const float *b, float *y)
{
    int32_t n = 0;
    for (; n + EMX_TILE_PIXELS <= p->rows; n += EMX_TILE_PIXELS) {
        const float *const add = skip ? skip + n * p->out : NULL;
        emx_linear_rows_f32(p, EMX_TILE_PIXELS, x + n * p->in, add, w, b, y + n * p->out);
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
