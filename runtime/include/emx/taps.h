// SPDX-License-Identifier: Apache-2.0
// Which taps of a sliding window lie inside the image.
#ifndef EMX_TAPS_H
#define EMX_TAPS_H
#include <emx/emx.h>

// The taps k of one axis for which 0 <= at + k * dilation < extent, as [first, last).
typedef struct {
    int32_t first, last;
} emx_taps_t;

EMX_INLINE emx_taps_t emx_taps(int32_t at, int32_t dilation, int32_t kernel, int32_t extent)
{
    emx_taps_t t;
    t.first = at < 0 ? (-at + dilation - 1) / dilation : 0;
    t.last = at + (kernel - 1) * dilation < extent ? kernel
             : at < extent                         ? (extent - at + dilation - 1) / dilation
                                                   : 0;
    return t;
}

#endif
