// SPDX-License-Identifier: Apache-2.0
// y[o][i][c] = the place in x[o][..][c] of the element that comes i-th, for i < count
//
//   x  [outer][extent][inner] elements, compared by `before`
//   y  [outer][count][inner] int64_t
//
// Among equal elements the first comes first; NaN is greater than all. Insertion into the sorted
// places so far: extent * count steps at most. No scratch. x and y must not overlap.
#ifndef EMX_KERNELS_SORT_H
#define EMX_KERNELS_SORT_H
#include <emx/emx.h>

typedef struct {
    int32_t outer, extent, inner;
    int32_t count, size; // of an element of x, in bytes
} emx_sort_t;

// *y = whether a comes before b.
typedef void (*emx_sort_before)(const void *a, const void *b, bool *y);

// Puts element i into its place among the `sorted` first ones; the number of those after that.
EMX_INLINE int32_t emx_sort_one(const emx_sort_t *p, emx_sort_before before, const char *x,
                                int32_t i, int64_t *y, int32_t sorted)
{
    const int32_t step = p->inner * p->size;
    int32_t at = sorted;
    for (; at > 0; at--) {
        const int64_t last = y[(at - 1) * p->inner];
        bool earlier;
        before(x + i * step, x + (int32_t)last * step, &earlier);
        if (!earlier) {
            break;
        }
        if (at < p->count) {
            y[at * p->inner] = last;
        }
    }
    if (at < p->count) {
        y[at * p->inner] = i;
    }
    return emx_min_s32(sorted + 1, p->count);
}

EMX_INLINE void emx_sort(const emx_sort_t *p, emx_sort_before before, const void *x, void *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t c = 0; c < p->inner; c++) {
            const char *const from = (const char *)x + (o * p->extent * p->inner + c) * p->size;
            int64_t *const to = (int64_t *)y + (o * p->count * p->inner + c);
            int32_t sorted = 0;
            for (int32_t i = 0; i < p->extent; i++) {
                sorted = emx_sort_one(p, before, from, i, to, sorted);
            }
        }
    }
}

#endif
