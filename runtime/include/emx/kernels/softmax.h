// SPDX-License-Identifier: Apache-2.0
// y[n][i][k] = exp(x[n][i][k] - max_j x[n][j][k]) / sum_j exp(x[n][j][k] - max), or the logarithm
// of that; or the logarithm of the sum, y[n][k] = max + log(sum_j exp(x[n][j][k] - max))
//
//   x  [outer][len][inner]     y  the same, or [outer][inner] for emx_logsumexp_f32
//
// No scratch. Columns (n, k) one after the other, all of x before the first of y; so y may be x,
// and if inner is 1, start anywhere before it (not emx_logsumexp_f32). The sum runs over j in
// ascending order; exp is emx_exp_negative_f32.
#ifndef EMX_KERNELS_SOFTMAX_H
#define EMX_KERNELS_SOFTMAX_H
#include <emx/scalar.h>

typedef struct {
    int32_t outer, len, inner;
} emx_softmax_f32_t;

// The greatest of x[0], x[step], ..., NaN if one is.
EMX_INLINE float emx_softmax_max_f32(const float *x, int32_t step, int32_t len)
{
    float max = -INFINITY;
    for (int32_t i = 0; i < len; i++) {
        max = emx_max_f32(x[i * step], max);
    }
    return max;
}

EMX_INLINE float emx_softmax_sum_f32(const float *x, int32_t step, int32_t len, float max)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < len; i++) {
        sum += emx_exp_negative_f32(x[i * step] - max);
    }
    return sum;
}

EMX_INLINE void emx_softmax_column_f32(int32_t step, int32_t len, const float *x, float *y)
{
    const float max = emx_softmax_max_f32(x, step, len);
    float sum = 0.0f;
    for (int32_t i = 0; i < len; i++) {
        const float e = emx_exp_negative_f32(x[i * step] - max);
        y[i * step] = e;
        sum += e;
    }
    const float scale = 1.0f / sum;
    for (int32_t i = 0; i < len; i++) {
        y[i * step] *= scale;
    }
}

EMX_INLINE void emx_softmax_f32(const emx_softmax_f32_t *p, const float *x, float *y)
{
    for (int32_t n = 0; n < p->outer; n++) {
        for (int32_t k = 0; k < p->inner; k++) {
            emx_softmax_column_f32(p->inner, p->len, x + k, y + k);
        }
        x += p->len * p->inner;
        y += p->len * p->inner;
    }
}

EMX_INLINE void emx_log_softmax_column_f32(int32_t step, int32_t len, const float *x, float *y)
{
    const float max = emx_softmax_max_f32(x, step, len);
    const float log_sum = logf(emx_softmax_sum_f32(x, step, len, max));
    for (int32_t i = 0; i < len; i++) {
        y[i * step] = (x[i * step] - max) - log_sum;
    }
}

EMX_INLINE void emx_log_softmax_f32(const emx_softmax_f32_t *p, const float *x, float *y)
{
    for (int32_t n = 0; n < p->outer; n++) {
        for (int32_t k = 0; k < p->inner; k++) {
            emx_log_softmax_column_f32(p->inner, p->len, x + k, y + k);
        }
        x += p->len * p->inner;
        y += p->len * p->inner;
    }
}

EMX_INLINE void emx_logsumexp_f32(const emx_softmax_f32_t *p, const float *x, float *y)
{
    for (int32_t n = 0; n < p->outer; n++) {
        for (int32_t k = 0; k < p->inner; k++) {
            const float max = emx_softmax_max_f32(x + k, p->inner, p->len);
            const float base = fabsf(max) < INFINITY ? max : 0.0f; // infinity less itself is NaN
            *y++ = base + logf(emx_softmax_sum_f32(x + k, p->inner, p->len, base));
        }
        x += p->len * p->inner;
    }
}

#endif
