// SPDX-License-Identifier: Apache-2.0
// Micro-kernels of int8 layers for Helium: sixteen products in one instruction. Weights: for each
// sixteen inputs four vectors, one for each output.
#ifndef EMX_ARCH_MVE_S8_H
#define EMX_ARCH_MVE_S8_H
#include <arm_mve.h>
#include <emx/emx.h>

#define EMX_DEPTH 16
#define EMX_STAGED 2

#define EMX_HAVE_dot_2x4_s8
EMX_INLINE void emx_dot_2x4_s8(int32_t acc[8], const int32_t b[4], const int8_t *pair,
                               const int8_t *w, int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = acc[4 + o] = b[o];
    }
    for (int32_t k = 0; k < depth; k += 16) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            const int8x16_t v = vldrbq_s8(w + 4 * k + 16 * o);
            acc[o] = vmladavaq_s8(acc[o], vldrbq_s8(pair + k), v);
            acc[4 + o] = vmladavaq_s8(acc[4 + o], vldrbq_s8(pair + depth + k), v);
        }
    }
}

#define EMX_HAVE_dot_1x4_s8
EMX_INLINE void emx_dot_1x4_s8(int32_t acc[4], const int32_t b[4], const int8_t *x, const int8_t *w,
                               int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = b[o];
    }
    for (int32_t k = 0; k < depth; k += 16) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] = vmladavaq_s8(acc[o], vldrbq_s8(x + k), vldrbq_s8(w + 4 * k + 16 * o));
        }
    }
}

#endif
