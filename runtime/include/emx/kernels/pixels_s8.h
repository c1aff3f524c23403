// SPDX-License-Identifier: Apache-2.0
// y[i][c][j] = table[c][x[i][c][j]]: bytes of an image, through a table for each channel
//
//   x, y  [outer][channels][inner]     table  [channels][256]
//
// No scratch. Elements in ascending order, so y may start at x or anywhere before it.
#ifndef EMX_KERNELS_PIXELS_S8_H
#define EMX_KERNELS_PIXELS_S8_H
#include <emx/emx.h>

typedef struct {
    int32_t outer, channels, inner;
} emx_pixels_s8_t;

EMX_INLINE void emx_pixels_s8(const emx_pixels_s8_t *p, const uint8_t *x, const int8_t *table,
                              int8_t *y)
{
    for (int32_t i = 0; i < p->outer; i++) {
        for (int32_t c = 0; c < p->channels; c++) {
            const int8_t *const t = table + 256 * c;
            for (int32_t j = 0; j < p->inner; j++) {
                *y++ = t[*x++];
            }
        }
    }
}

#endif
