// SPDX-License-Identifier: Apache-2.0
// y[o][j][i] = max or mean of x[o][t][i] over floor(j*in/out) <= t < ceil((j+1)*in/out)
//
//   x  [outer][in][inner]   y  [outer][out][inner]
//
// A NaN in the window makes the maximum NaN. The sum runs over t in ascending order. No scratch.
// Element after element: reads its window, then writes it. y may lie over x if it starts far enough
// before x.
#ifndef EMX_KERNELS_ADAPTIVE_POOL_H
#define EMX_KERNELS_ADAPTIVE_POOL_H
#include <emx/emx.h>

typedef struct {
    int32_t outer, in, out, inner;
} emx_adaptive_pool_f32_t;

EMX_INLINE float emx_adaptive_window_f32(const float *x, int32_t step, int32_t n, bool mean)
{
    float v = x[0];
    for (int32_t t = 1; t < n; t++) {
        const float other = x[t * step];
        if (mean) {
            v += other;
        } else {
            v = other > v || other != other ? other : v;
        }
    }
    return mean ? v / (float)n : v;
}

EMX_INLINE void emx_adaptive_pool_f32(const emx_adaptive_pool_f32_t *p, bool mean, const float *x,
                                      float *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t j = 0; j < p->out; j++) {
            const int32_t first = j * p->in / p->out;
            const int32_t last = ((j + 1) * p->in + p->out - 1) / p->out;
            for (int32_t i = 0; i < p->inner; i++) {
                *y++ =
                    emx_adaptive_window_f32(x + first * p->inner + i, p->inner, last - first, mean);
            }
        }
        x += p->in * p->inner;
    }
}

EMX_INLINE void emx_adaptive_avgpool_f32(const emx_adaptive_pool_f32_t *p, const float *x, float *y)
{
    emx_adaptive_pool_f32(p, true, x, y);
}

EMX_INLINE void emx_adaptive_maxpool_f32(const emx_adaptive_pool_f32_t *p, const float *x, float *y)
{
    emx_adaptive_pool_f32(p, false, x, y);
}

#endif
