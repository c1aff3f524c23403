// SPDX-License-Identifier: Apache-2.0
// y[m][n] = sum_k a[m][k] * b[k][n], for every matrix of a batch
//
//   a  [batch][batch][batch][m][k]     b  [batch][batch][batch][k][n]     y  [batch]...[m][n],
//   each with a step for every axis (_row and _col for the last two), a and b with a start
//   scratch  float [k][4]: four columns of b
//
// Sums run over k in ascending order. y must not overlap a or b.
#ifndef EMX_KERNELS_MATMUL_H
#define EMX_KERNELS_MATMUL_H
#include <emx/panel.h>

typedef struct {
    int32_t batch[3], a_batch[3], b_batch[3], y_batch[3];
    int32_t m, n, k;
    int32_t a_start, a_row, a_col;
    int32_t b_start, b_row, b_col;
    int32_t y_row, y_col;
} emx_matmul_f32_t;

// One matrix.
EMX_INLINE void emx_matmul_one_f32(const emx_matmul_f32_t *p, const float *a, const float *b,
                                   float *w, float *y)
{
    const emx_matrix_f32_t left = {a, p->a_row, p->a_col};
    const emx_matrix_f32_t right = {b, p->b_row, p->b_col};
    for (int32_t n = 0; n < p->n; n += 4) {
        const int32_t lanes = emx_min_s32(4, p->n - n);
        emx_panel_pack_f32(w, right, p->k, n, lanes);
        emx_panel_rows_f32(y + n * p->y_col, p->y_row, p->y_col, p->m, lanes, left, w, p->k);
    }
}

EMX_INLINE void emx_matmul_f32(const emx_matmul_f32_t *p, const float *a, const float *b,
                               void *scratch, float *y)
{
    const int32_t *const r = p->a_batch;
    const int32_t *const s = p->b_batch;
    const int32_t *const t = p->y_batch;
    for (int32_t i = 0; i < p->batch[0]; i++) {
        for (int32_t j = 0; j < p->batch[1]; j++) {
            for (int32_t k = 0; k < p->batch[2]; k++) {
                emx_matmul_one_f32(p, a + (p->a_start + i * r[0] + j * r[1] + k * r[2]),
                                   b + (p->b_start + i * s[0] + j * s[1] + k * s[2]),
                                   (float *)scratch, y + (i * t[0] + j * t[1] + k * t[2]));
            }
        }
    }
}

#endif
