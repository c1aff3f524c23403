// SPDX-License-Identifier: Apache-2.0
// y[o][i][c] = x[o][index[o][i][c]][c], and scattering, its opposite: y = x, then
// y[o][index[o][i][c]][c] = v[o][i][c], in ascending order of o, i, c
//
//   x      [outer][extent][inner] elements of `size` (1, 2, 4 or 8) bytes
//   index  [outer][count][inner] integers of index_size (4 or 8) bytes; a negative one counts from
//          the end
//   v, y   gathering: y is [outer][count][inner]; scattering: v is that, y is as x
//
// An index outside of x is brought to its nearest element; PyTorch raises an error. No scratch. The
// tensors must not overlap.
#ifndef EMX_KERNELS_TAKE_ALONG_H
#define EMX_KERNELS_TAKE_ALONG_H
#include <emx/index.h>

typedef struct {
    int32_t outer, extent, inner;
    int32_t count, size, index_size;
} emx_take_along_t;

// The element of x that number i of index names; i counts over [outer][count][inner].
EMX_INLINE int32_t emx_take_along_place(const emx_take_along_t *p, const void *index, int32_t i)
{
    const int32_t o = i / (p->count * p->inner);
    const int32_t c = i % p->inner;
    return (o * p->extent + emx_index(index, i, p->index_size, p->extent)) * p->inner + c;
}

EMX_INLINE void emx_take_along(const emx_take_along_t *p, const void *x, const void *index, void *y)
{
    for (int32_t i = 0; i < p->outer * p->count * p->inner; i++) {
        const int32_t at = emx_take_along_place(p, index, i);
        memcpy((char *)y + i * p->size, (const char *)x + at * p->size, (size_t)p->size);
    }
}

EMX_INLINE void emx_put_along(const emx_take_along_t *p, const void *x, const void *index,
                              const void *v, void *y)
{
    memcpy(y, x, (size_t)(p->outer * p->extent * p->inner) * (size_t)p->size);
    for (int32_t i = 0; i < p->outer * p->count * p->inner; i++) {
        const int32_t at = emx_take_along_place(p, index, i);
        memcpy((char *)y + at * p->size, (const char *)v + i * p->size, (size_t)p->size);
    }
}

#endif
