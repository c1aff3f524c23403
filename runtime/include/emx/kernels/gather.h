// SPDX-License-Identifier: Apache-2.0
// y[o][i] = x[o][index[i]]: rows of x picked by number
//
//   x      [outer][extent][run] bytes
//   index  [count] integers of index_size (4 or 8) bytes; a negative one counts from the end
//   y      [outer][count][run] bytes
//
// An index outside of x is brought to its nearest row; PyTorch raises an error. No scratch. x,
// index and y must not overlap.
#ifndef EMX_KERNELS_GATHER_H
#define EMX_KERNELS_GATHER_H
#include <emx/index.h>

typedef struct {
    int32_t outer, extent, run;
    int32_t count, index_size;
} emx_gather_t;

EMX_INLINE void emx_gather(const emx_gather_t *p, const void *x, const void *index, void *y)
{
    const char *from = (const char *)x;
    char *to = (char *)y;
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t i = 0; i < p->count; i++) {
            const int32_t row = emx_index(index, i, p->index_size, p->extent);
            memcpy(to, from + row * p->run, (size_t)p->run);
            to += p->run;
        }
        from += p->extent * p->run;
    }
}

#endif
