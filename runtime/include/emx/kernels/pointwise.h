// SPDX-License-Identifier: Apache-2.0
// y[i] = f(x[0][i], x[1][i], ...) with broadcasting: operand n is read at sum_d i[d]*step[n][d].
//
//   x  `inputs` operands, at most four     y  [extent[0]]...[extent[3]], contiguous
//
// Steps and `size` (of an element of y) count bytes; a step of 0 repeats an operand along an axis.
// f is a scalar function made of the table of python/emx/scalars.py: it reads one element of each
// operand and writes one of y, of any types. No scratch. Elements in ascending order of y: each
// reads its operands, then writes, so y may start at an operand of its own shape, or before it, if
// its elements are no larger; it must not overlap another.
#ifndef EMX_KERNELS_POINTWISE_H
#define EMX_KERNELS_POINTWISE_H
#include <emx/scalar.h>

typedef struct {
    int32_t inputs;
    int32_t size;
    int32_t extent[4];
    int32_t step[4][4];
} emx_pointwise_t;

typedef void (*emx_pointwise_f)(const void *const x[], void *y);

// The innermost axis, from the elements x[n] on.
EMX_INLINE void emx_pointwise_row(const emx_pointwise_t *p, emx_pointwise_f f,
                                  const char *const x[], char *y)
{
    for (int32_t l = 0; l < p->extent[3]; l++) {
        const void *at[4] = {NULL, NULL, NULL, NULL};
        EMX_UNROLL
        for (int n = 0; n < 4; n++) {
            if (n < p->inputs) {
                at[n] = x[n] + l * p->step[n][3];
            }
        }
        f(at, y + l * p->size);
    }
}

EMX_INLINE void emx_pointwise(const emx_pointwise_t *p, emx_pointwise_f f, const void *const x[],
                              void *y)
{
    char *to = (char *)y;
    for (int32_t i = 0; i < p->extent[0]; i++) {
        for (int32_t j = 0; j < p->extent[1]; j++) {
            for (int32_t k = 0; k < p->extent[2]; k++) {
                const char *row[4] = {NULL, NULL, NULL, NULL};
                EMX_UNROLL
                for (int n = 0; n < 4; n++) {
                    if (n < p->inputs) {
                        const int32_t *const s = p->step[n];
                        row[n] = (const char *)x[n] + (i * s[0] + j * s[1] + k * s[2]);
                    }
                }
                emx_pointwise_row(p, f, row, to);
                to += p->extent[3] * p->size;
            }
        }
    }
}

#endif
