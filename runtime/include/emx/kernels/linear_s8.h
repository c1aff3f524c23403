// SPDX-License-Identifier: Apache-2.0
// y[o] = scale(b[o] + sum_k x[k] * w[o][k]), scale() of emx/quant.h
//
//   x  [in]     w  [blocks][depth][4], q  [blocks][12], see arch/generic_s8.h; depth is `in`,
//               padded to a multiple of EMX_DEPTH
//   y  [out]
//
// emx_linear_staged_s8 has `depth` bytes of scratch for a copy of x, which it reads whole before it
// writes anything. emx_linear_s8, where depth is `in`, has none: it reads x as it lies, again for
// each block of outputs, which it writes at once.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_conv_s8.py).
#ifndef EMX_KERNELS_LINEAR_S8_H
#define EMX_KERNELS_LINEAR_S8_H
#include <emx/dot_s8.h>

typedef struct {
    int32_t in, out, depth;
    int32_t tail;  // out % 4
    int32_t twice; // 1: weights are packed so, see the micro-kernels of the target
    int32_t words; // of a block's parameters: 12, or 7, see emx/quant.h
    int32_t wide;  // 1: sums are scaled in 64 bits
    int32_t zero, lo, hi;
} emx_linear_s8_t;

EMX_INLINE void emx_linear_s8(const emx_linear_s8_t *p, const int8_t *x, const int8_t *w,
                              const int32_t *q, int8_t *y)
{
    const emx_dot_s8_t dot = emx_dot_of_s8(p->depth, p->out, 0, p->zero, p->lo, p->hi);
    const emx_packing_s8_t how = {p->twice, p->words, p->tail, emx_clamped_s8(p->lo, p->hi)};
    if (p->wide) {
        const emx_direct_s8_t none = {NULL, 0, 0, 0};
        emx_outputs_wide_s8(&dot, 1, x, w, q, &none, y);
    } else {
        emx_outputs_s8(&dot, &how, 1, x, w, q, y);
    }
}

EMX_INLINE void emx_linear_staged_s8(const emx_linear_s8_t *p, const int8_t *x, const int8_t *w,
                                     const int32_t *q, void *scratch, int8_t *y)
{
    emx_copy_s8((int8_t *)scratch, x, p->in);
    emx_linear_s8(p, (const int8_t *)scratch, w, q, y);
}

#endif
