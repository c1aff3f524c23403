// SPDX-License-Identifier: Apache-2.0
// y[n][i] = exp(x[n][i] - max_j x[n][j]) / sum_j exp(x[n][j] - max), or the logarithm of that
//
//   x, y  [rows][len]
//
// No scratch. y may start at x or anywhere before it. The sum runs over j in ascending order; exp
// is emx_exp_f32.
#ifndef EMX_KERNELS_SOFTMAX_H
#define EMX_KERNELS_SOFTMAX_H
#include <emx/scalar.h>

typedef struct {
    int32_t rows, len;
} emx_softmax_f32_t;

// The greatest of x[0 .. len), NaN if one is.
EMX_INLINE float emx_softmax_max_f32(const float *x, int32_t len)
{
    float max = x[0];
    for (int32_t i = 1; i < len; i++) {
        max = emx_max_f32(x[i], max);
    }
    return max;
}

EMX_INLINE void emx_softmax_f32(const emx_softmax_f32_t *p, const float *x, float *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        const float max = emx_softmax_max_f32(x, p->len);
        float sum = 0.0f;
        for (int32_t i = 0; i < p->len; i++) {
            y[i] = emx_exp_f32(x[i] - max);
            sum += y[i];
        }
        for (int32_t i = 0; i < p->len; i++) {
            y[i] = y[i] / sum;
        }
        x += p->len;
        y += p->len;
    }
}

EMX_INLINE void emx_log_softmax_f32(const emx_softmax_f32_t *p, const float *x, float *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        const float max = emx_softmax_max_f32(x, p->len);
        float sum = 0.0f;
        for (int32_t i = 0; i < p->len; i++) {
            sum += emx_exp_f32(x[i] - max);
        }
        const float log_sum = logf(sum);
        for (int32_t i = 0; i < p->len; i++) {
            y[i] = (x[i] - max) - log_sum;
        }
        x += p->len;
        y += p->len;
    }
}

#endif
