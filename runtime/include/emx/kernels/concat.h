// SPDX-License-Identifier: Apache-2.0
// y[r] = x[0][r], x[1][r], ... one after the other: tensors joined along an axis
//
//   x[n]  [rows][run[n]] bytes, for n < inputs <= 8     y  [rows][run[0] + run[1] + ...] bytes
//
// Elements may have any type. No scratch. x and y must not overlap.
#ifndef EMX_KERNELS_CONCAT_H
#define EMX_KERNELS_CONCAT_H
#include <emx/emx.h>

typedef struct {
    int32_t inputs, rows;
    int32_t run[8];
} emx_concat_t;

EMX_INLINE void emx_concat(const emx_concat_t *p, const void *const x[], void *y)
{
    char *to = (char *)y;
    for (int32_t r = 0; r < p->rows; r++) {
        for (int32_t n = 0; n < p->inputs; n++) {
            const size_t bytes = (size_t)p->run[n];
            memcpy(to, (const char *)x[n] + (size_t)r * bytes, bytes);
            to += bytes;
        }
    }
}

#endif
