// SPDX-License-Identifier: Apache-2.0
// For kernels whose weights come in columns of four outputs on every target.
#ifndef EMX_ARCH_FOUR_H
#define EMX_ARCH_FOUR_H
#include <emx/emx.h>

// acc[p][o] += sum_k x[p * pixel + k * step] * w[k][o] for p < pixels <= 4
EMX_INLINE void emx_mac_px4_f32(float *acc, int pixels, const float *x, int32_t pixel, int32_t step,
                                const float *w, int32_t n)
{
#if EMX_LANES == 4
    const float *at[4];
    EMX_UNROLL
    for (int p = 0; p < 4; p++) {
        at[p] = x + (p < pixels ? p * pixel : 0);
    }
    emx_mac_f32(acc, pixels, 1, at, step, w, 0, n);
#else
    EMX_UNROLL_2
    for (int32_t k = 0; k < n; k++) {
        EMX_UNROLL
        for (int p = 0; p < pixels; p++) {
            const float v = x[p * pixel + k * step];
            EMX_UNROLL
            for (int o = 0; o < 4; o++) {
                acc[4 * p + o] += v * w[4 * k + o];
            }
        }
    }
#endif
}

EMX_INLINE void emx_mac_1x4_f32(float acc[4], const float *x, int32_t step, const float *w,
                                int32_t n)
{
    emx_mac_px4_f32(acc, 1, x, 0, step, w, n);
}

EMX_INLINE void emx_mac_4x4_f32(float acc[16], const float *x, int32_t pixel, int32_t step,
                                const float *w, int32_t n)
{
    emx_mac_px4_f32(acc, 4, x, pixel, step, w, n);
}

// y[o] = clamp(acc[o] + skip[o]) for o < n <= 4; skip may be null.
EMX_INLINE void emx_store_4_f32(float *y, const float acc[4], const float *skip, float lo, float hi,
                                int32_t n)
{
#if EMX_LANES == 4
    emx_store_f32(y, acc, skip, lo, hi, n);
#else
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        if (o < n) {
            y[o] = emx_clamp_f32(skip ? acc[o] + skip[o] : acc[o], lo, hi);
        }
    }
#endif
}

#endif
