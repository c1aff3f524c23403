// SPDX-License-Identifier: Apache-2.0
// y[i] = finish(combine(... combine(init, x[i][0]) ..., x[i][n-1]), n) over any set of axes.
//
//   y     [keep[0]]...[keep[3]], contiguous; x is read at sum i[d]*keep_step[d] + r[d]*over_step[d]
//   over  the reduced axes, outermost first; n is the product of their extents
//
// Steps and `size` (of an element of y) count bytes. combine and finish come from the table of
// python/emx/ops/reduce.py: combine takes in element i of n, finish writes an element of y, of any
// types. No scratch. Elements of y in ascending order, each reading all it needs before it is
// written. x and y must not overlap.
#ifndef EMX_KERNELS_REDUCE_H
#define EMX_KERNELS_REDUCE_H
#include <emx/scalar.h>

typedef struct {
    int32_t size;
    int32_t keep[4], keep_step[4];
    int32_t over[4], over_step[4];
    float real;    // the accumulator's start: acc.f,
    int64_t whole; // and acc.i
} emx_reduce_t;

// What a reduction remembers: numbers, their integers or the index of one.
typedef struct {
    float f, g;
    int64_t i;
} emx_acc_t;

typedef void (*emx_reduce_combine)(emx_acc_t *acc, const void *x, int32_t i);
typedef void (*emx_reduce_finish)(const emx_acc_t *acc, float n, void *y);

EMX_INLINE emx_acc_t emx_reduce_one(const emx_reduce_t *p, emx_reduce_combine combine,
                                    const char *x)
{
    const int32_t *const n = p->over;
    const int32_t *const s = p->over_step;
    emx_acc_t acc = {p->real, 0.0f, p->whole};
    int32_t i = 0;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    combine(&acc, x + (a * s[0] + b * s[1] + c * s[2] + d * s[3]), i);
                    i++;
                }
            }
        }
    }
    return acc;
}

EMX_INLINE void emx_reduce(const emx_reduce_t *p, emx_reduce_combine combine,
                           emx_reduce_finish finish, const void *x, void *y)
{
    const int32_t *const n = p->keep;
    const int32_t *const s = p->keep_step;
    const float count = (float)(p->over[0] * p->over[1] * p->over[2] * p->over[3]);
    char *to = (char *)y;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const int32_t from = a * s[0] + b * s[1] + c * s[2] + d * s[3];
                    const emx_acc_t acc = emx_reduce_one(p, combine, (const char *)x + from);
                    finish(&acc, count, to);
                    to += p->size;
                }
            }
        }
    }
}

#endif
