// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels: the narrow waist between the kernels and an instruction set.
//
// Weights come in columns of four outputs, w[k][4], 16-byte aligned. Sums run over k in ascending
// order, one accumulator for each output, so the result does not depend on the tile.
#ifndef EMX_ARCH_GENERIC_H
#define EMX_ARCH_GENERIC_H
#include <emx/emx.h>

#ifndef EMX_HAVE_mac_1x4_f32
// acc[o] += sum_k x[k * step] * w[k][o]
EMX_INLINE void emx_mac_1x4_f32(float acc[4], const float *x, int32_t step, const float *w,
                                int32_t n)
{
    EMX_UNROLL_4
    for (int32_t k = 0; k < n; k++) {
        const float v = x[k * step];
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] += v * w[4 * k + o];
        }
    }
}
#endif

#ifndef EMX_HAVE_mac_4x4_f32
// acc[p][o] += sum_k x[p * pixel + k * step] * w[k][o]
EMX_INLINE void emx_mac_4x4_f32(float acc[16], const float *x, int32_t pixel, int32_t step,
                                const float *w, int32_t n)
{
    EMX_UNROLL_2
    for (int32_t k = 0; k < n; k++) {
        EMX_UNROLL
        for (int p = 0; p < 4; p++) {
            const float v = x[p * pixel + k * step];
            EMX_UNROLL
            for (int o = 0; o < 4; o++) {
                acc[4 * p + o] += v * w[4 * k + o];
            }
        }
    }
}
#endif

#ifndef EMX_HAVE_mac_channels_f32
// acc[o] += x[o] * w[o] for o < n <= 4
EMX_INLINE void emx_mac_channels_f32(float acc[4], const float *x, const float *w, int32_t n)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        if (o < n) {
            acc[o] += x[o] * w[o];
        }
    }
}
#endif

#ifndef EMX_HAVE_store_4_f32
// y[o] = clamp(acc[o] + skip[o]) for o < n <= 4; skip may be null.
EMX_INLINE void emx_store_4_f32(float *y, const float acc[4], const float *skip, float lo, float hi,
                                int32_t n)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        if (o < n) {
            const float v = skip ? acc[o] + skip[o] : acc[o];
            y[o] = emx_clamp_f32(v, lo, hi);
        }
    }
}
#endif

#endif
