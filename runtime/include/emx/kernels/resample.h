// SPDX-License-Identifier: Apache-2.0
// y[o][j][i] = sum_t x[o][index[j][t]][i] * w[j][t]; with one tap y[o][j][i] = x[o][index[j]][i].
//
//   x      [outer][in][inner]   y  [outer][out][inner]
//   index  [out][taps]   w  [out][taps], not for one tap
//
// The sum runs over t in ascending order. No scratch. Element after element: reads its taps, then
// writes it. y may lie over x if it starts far enough before x.
#ifndef EMX_KERNELS_RESAMPLE_H
#define EMX_KERNELS_RESAMPLE_H
#include <emx/emx.h>

typedef struct {
    int32_t outer, in, out, inner;
    int32_t taps; // 1, 2 or 4
} emx_resample_f32_t;

EMX_INLINE void emx_resample_row_f32(int32_t taps, int32_t inner, const float *x,
                                     const int32_t *index, const float *w, float *y)
{
    const float *tap[4] = {x, x, x, x};
    for (int t = 0; t < taps; t++) {
        tap[t] = x + index[t] * inner;
    }
    for (int32_t i = 0; i < inner; i++) {
        float sum = w ? tap[0][i] * w[0] : tap[0][i];
        for (int t = 1; t < taps; t++) {
            sum += tap[t][i] * w[t];
        }
        y[i] = sum;
    }
}

EMX_INLINE void emx_resample_f32(const emx_resample_f32_t *p, const float *x, const int32_t *index,
                                 const float *w, float *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t j = 0; j < p->out; j++) {
            const float *const weight = w ? w + j * p->taps : NULL;
            emx_resample_row_f32(p->taps, p->inner, x, index + j * p->taps, weight, y);
            y += p->inner;
        }
        x += p->in * p->inner;
    }
}

EMX_INLINE void emx_resample_nearest_f32(const emx_resample_f32_t *p, const float *x,
                                         const int32_t *index, float *y)
{
    emx_resample_f32(p, x, index, NULL, y);
}

#endif
