// SPDX-License-Identifier: Apache-2.0
// Tiles of a matrix product: `pixels` rows by `columns` columns of EMX_LANES outputs.
//
// A tile of one pixel has room for more columns than one of EMX_TILE_PIXELS. So the columns are
// taken EMX_TILE_VECTORS / pixels at once, then a quarter as many, down to one; a last column that
// is not whole stands alone. python/emx/window.py knows this order, or states one pixel column by
// column: a kernel may take more columns at once than stated, as it then reads less often.
#ifndef EMX_TILE_H
#define EMX_TILE_H
#include <emx/arch.h>

typedef struct {
    EMX_ALIGNED(64) float sum[EMX_TILE_VECTORS * EMX_LANES];
} emx_tile_f32_t;

// How many columns are taken at once: at first, then, then. 0: no more to try.
EMX_INLINE int emx_tile_columns(int pixels, int turn)
{
    const int most = EMX_TILE_VECTORS / pixels;
    const int quarter = most < 4 ? 1 : most / 4;
    if (turn == 0) {
        return most;
    }
    if (turn == 1) {
        return most > 1 ? quarter : 0;
    }
    return quarter > 1 ? 1 : 0;
}

EMX_INLINE void emx_tile_start_f32(emx_tile_f32_t *t, int pixels, int columns, const float *b)
{
    EMX_UNROLL
    for (int i = 0; i < pixels * columns; i++) {
        emx_start_f32(t->sum + i * EMX_LANES, b + i % columns * EMX_LANES, EMX_LANES);
    }
}

// As emx_tile_store_f32 for `rows` rows of n outputs, in one copy for all tiles of a model.
EMX_SHARED void emx_tile_rows_f32(const float *sum, const float *skip, float *y, int32_t row,
                                  int32_t rows, int32_t n, float lo, float hi)
{
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t o = 0; o < n; o++) {
            y[o] = emx_clamp_f32(skip ? sum[o] + skip[o] : sum[o], lo, hi);
        }
        sum += (n + EMX_LANES - 1) / EMX_LANES * EMX_LANES;
        skip = skip ? skip + row : NULL;
        y += row;
    }
}

// Clamp and store `valid` <= pixels rows of y, `row` elements apart; skip, of the same shape, is
// added before and may be null. Row by row, column by column.
EMX_INLINE void emx_tile_store_f32(const emx_tile_f32_t *t, int pixels, int columns, int32_t valid,
                                   const float *skip, float *y, int32_t row, float lo, float hi,
                                   int lanes)
{
    if (EMX_SHARE_STORE) {
        const emx_tile_f32_t in_memory = *t;
        const int32_t n = (columns - 1) * EMX_LANES + lanes;
        emx_tile_rows_f32(in_memory.sum, skip, y, row, valid, n, lo, hi);
        return;
    }
    EMX_UNROLL
    for (int i = 0; i < pixels; i++) {
        if (i < valid) {
            EMX_UNROLL
            for (int j = 0; j < columns; j++) {
                const int32_t at = i * row + j * EMX_LANES;
                emx_store_f32(y + at, t->sum + (i * columns + j) * EMX_LANES,
                              skip ? skip + at : NULL, lo, hi, lanes);
            }
        }
    }
}

#endif
