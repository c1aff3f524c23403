// SPDX-License-Identifier: Apache-2.0
// y[n][i] = x[n][i] / sqrt(mean_j x[n][j]^2 + eps) * w[i]
//
//   x, y  [rows][len]     w  [len]
//
// No scratch. y may start at x or anywhere before it. The sum runs over j in ascending order.
#ifndef EMX_KERNELS_RMS_NORM_H
#define EMX_KERNELS_RMS_NORM_H
#include <emx/emx.h>

typedef struct {
    int32_t rows, len;
    float eps;
} emx_rms_norm_f32_t;

EMX_INLINE void emx_rms_norm_f32(const emx_rms_norm_f32_t *p, const float *x, const float *w,
                                 float *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        float squares = 0.0f;
        for (int32_t i = 0; i < p->len; i++) {
            squares += x[i] * x[i];
        }
        const float scale = 1.0f / sqrtf(squares / (float)p->len + p->eps);
        for (int32_t i = 0; i < p->len; i++) {
            y[i] = x[i] * scale * w[i];
        }
        x += p->len;
        y += p->len;
    }
}

#endif
