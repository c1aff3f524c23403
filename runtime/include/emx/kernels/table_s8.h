// SPDX-License-Identifier: Apache-2.0
// y[i] = table[x[i] + 128]
//
//   x, y  [size]     table  [256]
//
// No scratch. Elements in ascending order, so y may start at x or anywhere before it.
#ifndef EMX_KERNELS_TABLE_S8_H
#define EMX_KERNELS_TABLE_S8_H
#include <emx/emx.h>

typedef struct {
    int32_t size;
} emx_table_s8_t;

EMX_INLINE void emx_table_s8(const emx_table_s8_t *p, const int8_t *x, const int8_t *table,
                             int8_t *y)
{
    for (int32_t i = 0; i < p->size; i++) {
        y[i] = table[x[i] + 128];
    }
}

#endif
