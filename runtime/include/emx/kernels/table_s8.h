// SPDX-License-Identifier: Apache-2.0
// y[i] = table[x[i] + 128]
//
//   x, y  [size]     table  [256]
//
// No scratch. Elements in ascending order, up to sixteen at a time, which are read before they are
// written: y may start at x or anywhere before it.
#ifndef EMX_KERNELS_TABLE_S8_H
#define EMX_KERNELS_TABLE_S8_H
#include <emx/arch.h>

typedef struct {
    int32_t size;
} emx_table_s8_t;

EMX_INLINE void emx_table_s8(const emx_table_s8_t *p, const int8_t *x, const int8_t *table,
                             int8_t *y)
{
    emx_look_up_s8(y, x, table, p->size);
}

#endif
