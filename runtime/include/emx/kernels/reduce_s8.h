// SPDX-License-Identifier: Apache-2.0
// y[i] = clamp(zero + (a - x_zero) * m / 2^shift) with a = sum x[i][.], max x[i][.] or min x[i][.]
// over any set of axes. The product is exact, and rounded half to even.
//
//   y     [keep[0]]...[keep[3]], contiguous; x is read at sum i[d]*keep_step[d] + r[d]*over_step[d]
//   over  the reduced axes, outermost first
//
// x_zero is the zero point of x, times the number of reduced elements for a sum. No scratch.
// Elements of y in ascending order, each reading all it needs before it is written. x and y must
// not overlap.
#ifndef EMX_KERNELS_REDUCE_S8_H
#define EMX_KERNELS_REDUCE_S8_H
#include <emx/fixed.h>

typedef struct {
    int32_t keep[4], keep_step[4];
    int32_t over[4], over_step[4];
    int32_t x_zero, m, shift;
    int32_t zero, lo, hi;
} emx_reduce_s8_t;

typedef enum { EMX_REDUCE_SUM, EMX_REDUCE_MAX, EMX_REDUCE_MIN } emx_reduce_kind_t;

EMX_INLINE int32_t emx_reduce_one_s8(const emx_reduce_s8_t *p, emx_reduce_kind_t kind,
                                     const int8_t *x)
{
    const int32_t *const n = p->over;
    const int32_t *const s = p->over_step;
    int32_t acc = kind == EMX_REDUCE_SUM ? 0 : x[0];
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const int32_t v = x[a * s[0] + b * s[1] + c * s[2] + d * s[3]];
                    acc = kind == EMX_REDUCE_SUM   ? acc + v
                          : kind == EMX_REDUCE_MAX ? emx_max_s32(acc, v)
                                                   : emx_min_s32(acc, v);
                }
            }
        }
    }
    return acc;
}

EMX_INLINE void emx_reduce_s8(const emx_reduce_s8_t *p, emx_reduce_kind_t kind, const int8_t *x,
                              int8_t *y)
{
    const int32_t *const n = p->keep;
    const int32_t *const s = p->keep_step;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const int32_t at = a * s[0] + b * s[1] + c * s[2] + d * s[3];
                    const int64_t acc = emx_reduce_one_s8(p, kind, x + at) - p->x_zero;
                    const int64_t v = emx_round_even_s64(acc * p->m, p->shift);
                    *y++ = emx_clamp_s8(v, p->zero, p->lo, p->hi);
                }
            }
        }
    }
}

EMX_INLINE void emx_reduce_sum_s8(const emx_reduce_s8_t *p, const int8_t *x, int8_t *y)
{
    emx_reduce_s8(p, EMX_REDUCE_SUM, x, y);
}

EMX_INLINE void emx_reduce_max_s8(const emx_reduce_s8_t *p, const int8_t *x, int8_t *y)
{
    emx_reduce_s8(p, EMX_REDUCE_MAX, x, y);
}

EMX_INLINE void emx_reduce_min_s8(const emx_reduce_s8_t *p, const int8_t *x, int8_t *y)
{
    emx_reduce_s8(p, EMX_REDUCE_MIN, x, y);
}

#endif
