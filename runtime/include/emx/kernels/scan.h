// SPDX-License-Identifier: Apache-2.0
// y[o][i][c] = x[o][0][c] combined with x[o][1][c] ... up to x[o][i][c]: running sums and products
//
//   x, y  [outer][extent][inner] elements of one type, `size` bytes each
//
// combine adds an element to the result so far; it comes from the table of python/emx/ops/scan.py.
// No scratch. In ascending order of o, c, i. x and y must not overlap.
#ifndef EMX_KERNELS_SCAN_H
#define EMX_KERNELS_SCAN_H
#include <emx/scalar.h>

typedef struct {
    int32_t outer, extent, inner, size;
} emx_scan_t;

typedef void (*emx_scan_combine)(const void *last, const void *x, void *y);

EMX_INLINE void emx_scan(const emx_scan_t *p, emx_scan_combine combine, const void *x, void *y)
{
    const int32_t step = p->inner * p->size;
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t c = 0; c < p->inner && p->extent > 0; c++) {
            const char *from = (const char *)x + (o * p->extent * step + c * p->size);
            char *to = (char *)y + (o * p->extent * step + c * p->size);
            memcpy(to, from, (size_t)p->size);
            for (int32_t i = 1; i < p->extent; i++) {
                combine(to, from + step, to + step);
                from += step;
                to += step;
            }
        }
    }
}

#endif
