// SPDX-License-Identifier: Apache-2.0
// y[i] = finish(combine(... combine(init, x[i][0]) ..., x[i][n-1]), n) over any set of axes.
//
//   y     [keep[0]]...[keep[3]], contiguous; x is read at sum i[d]*keep_step[d] + r[d]*over_step[d]
//   over  the reduced axes, outermost first; n is the product of their extents
//
// combine and finish come from the table of python/emx/ops/reduce.py. No scratch. Elements of y in
// ascending order, each reading all it needs before it is written. x and y must not overlap.
#ifndef EMX_KERNELS_REDUCE_H
#define EMX_KERNELS_REDUCE_H
#include <emx/scalar.h>

typedef struct {
    int32_t keep[4], keep_step[4];
    int32_t over[4], over_step[4];
    float init;
} emx_reduce_f32_t;

EMX_INLINE float emx_reduce_one_f32(const emx_reduce_f32_t *p, float (*combine)(float, float),
                                    const float *x)
{
    const int32_t *const n = p->over;
    const int32_t *const s = p->over_step;
    float acc = p->init;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    acc = combine(acc, x[a * s[0] + b * s[1] + c * s[2] + d * s[3]]);
                }
            }
        }
    }
    return acc;
}

EMX_INLINE void emx_reduce_f32(const emx_reduce_f32_t *p, float (*combine)(float, float),
                               float (*finish)(float, float), const float *x, float *y)
{
    const int32_t *const n = p->keep;
    const int32_t *const s = p->keep_step;
    const float count = (float)(p->over[0] * p->over[1] * p->over[2] * p->over[3]);
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const float *const from = x + (a * s[0] + b * s[1] + c * s[2] + d * s[3]);
                    *y++ = finish(emx_reduce_one_f32(p, combine, from), count);
                }
            }
        }
    }
}

#endif
