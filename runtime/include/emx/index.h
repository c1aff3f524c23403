// SPDX-License-Identifier: Apache-2.0
// Indices that are data of the model.
#ifndef EMX_INDEX_H
#define EMX_INDEX_H
#include <emx/emx.h>

// Index i of an array of integers of `size` (4 or 8) bytes, counted from the end of `extent` if it
// is negative, and brought into [0, extent).
EMX_INLINE int32_t emx_index(const void *index, int32_t i, int32_t size, int32_t extent)
{
    int64_t at = size == 4 ? ((const int32_t *)index)[i] : ((const int64_t *)index)[i];
    at = at < 0 ? at + extent : at;
    return at < 0 ? 0 : at < extent ? (int32_t)at : extent - 1;
}

#endif
