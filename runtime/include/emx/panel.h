// SPDX-License-Identifier: Apache-2.0
// Products of matrices that are computed at run time: four columns of one are packed as the
// micro-kernels want them, then multiplied with all rows of the other.
#ifndef EMX_PANEL_H
#define EMX_PANEL_H
#include <emx/arch.h>

// A matrix where it lies: element [i][j] is at data[i * row + j * col].
typedef struct {
    const float *data;
    int32_t row, col;
} emx_matrix_f32_t;

// w[k][4] = columns j to j + lanes of b, lanes <= 4, then zeros; k < n.
EMX_INLINE void emx_panel_pack_f32(float *w, emx_matrix_f32_t b, int32_t n, int32_t j,
                                   int32_t lanes)
{
    const float *from = b.data + j * b.col;
    for (int32_t k = 0; k < n; k++) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            w[4 * k + o] = o < lanes ? from[o * b.col] : 0.0f;
        }
        from += b.row;
    }
}

// `lanes` columns of `rows` (1 or 4) rows: y[i][o] = sum_k a[i][k] * w[k][o], k < n.
EMX_INLINE void emx_panel_tile_f32(float *y, int32_t y_row, int32_t y_col, int32_t rows,
                                   int32_t lanes, emx_matrix_f32_t a, const float *w, int32_t n)
{
    float acc[16] = {0};
    if (rows == 4) {
        emx_mac_4x4_f32(acc, a.data, a.row, a.col, w, n);
    } else {
        emx_mac_1x4_f32(acc, a.data, a.col, w, n);
    }
    EMX_UNROLL
    for (int i = 0; i < 16; i++) {
        if (i < 4 * rows && (i & 3) < lanes) {
            y[(i >> 2) * y_row + (i & 3) * y_col] = acc[i];
        }
    }
}

// As emx_panel_tile_f32, for any number of rows. Sums run over k in ascending order.
EMX_INLINE void emx_panel_rows_f32(float *y, int32_t y_row, int32_t y_col, int32_t rows,
                                   int32_t lanes, emx_matrix_f32_t a, const float *w, int32_t n)
{
    int32_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        emx_panel_tile_f32(y, y_row, y_col, 4, lanes, a, w, n);
        y += 4 * y_row;
        a.data += 4 * a.row;
    }
    for (; i < rows; i++) {
        emx_panel_tile_f32(y, y_row, y_col, 1, lanes, a, w, n);
        y += y_row;
        a.data += a.row;
    }
}

#endif
