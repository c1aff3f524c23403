// SPDX-License-Identifier: Apache-2.0
// y[n][i] = (x[n][i] - mean) / sqrt(var + eps) * w[i] + b[i], mean and var those of x[n]
//
//   x, y  [rows][len]     w, b  [len]
//
// No scratch. y may start at x or anywhere before it. Two passes over a row for mean and variance,
// sums over i in ascending order: the difference of squares would lose digits.
#ifndef EMX_KERNELS_LAYER_NORM_H
#define EMX_KERNELS_LAYER_NORM_H
#include <emx/emx.h>

typedef struct {
    int32_t rows, len;
    float eps;
} emx_layer_norm_f32_t;

EMX_INLINE void emx_layer_norm_f32(const emx_layer_norm_f32_t *p, const float *x, const float *w,
                                   const float *b, float *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        float sum = 0.0f;
        for (int32_t i = 0; i < p->len; i++) {
            sum += x[i];
        }
        const float mean = sum / (float)p->len;
        float squares = 0.0f;
        for (int32_t i = 0; i < p->len; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        const float scale = 1.0f / sqrtf(squares / (float)p->len + p->eps);
        for (int32_t i = 0; i < p->len; i++) {
            y[i] = (x[i] - mean) * scale * w[i] + b[i];
        }
        x += p->len;
        y += p->len;
    }
}

#endif
