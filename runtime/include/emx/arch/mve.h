// SPDX-License-Identifier: Apache-2.0
// Micro-kernels for Helium (Armv8.1-M MVE with floating point): four outputs are one vector.
#ifndef EMX_ARCH_MVE_H
#define EMX_ARCH_MVE_H
#include <arm_mve.h>
#include <emx/emx.h>

#define EMX_HAVE_mac_1x4_f32
EMX_INLINE void emx_mac_1x4_f32(float acc[4], const float *x, int32_t step, const float *w,
                                int32_t n)
{
    float32x4_t a = vld1q_f32(acc);
    EMX_UNROLL_4
    for (int32_t k = 0; k < n; k++) {
        a = vfmaq_n_f32(a, vld1q_f32(w + 4 * k), x[k * step]);
    }
    vst1q_f32(acc, a);
}

#define EMX_HAVE_mac_4x4_f32
EMX_INLINE void emx_mac_4x4_f32(float acc[16], const float *x, int32_t pixel, int32_t step,
                                const float *w, int32_t n)
{
    float32x4_t a = vld1q_f32(acc);
    float32x4_t b = vld1q_f32(acc + 4);
    float32x4_t c = vld1q_f32(acc + 8);
    float32x4_t d = vld1q_f32(acc + 12);
    for (int32_t k = 0; k < n; k++) {
        const float32x4_t column = vld1q_f32(w + 4 * k);
        const float *const tap = x + k * step;
        a = vfmaq_n_f32(a, column, tap[0]);
        b = vfmaq_n_f32(b, column, tap[pixel]);
        c = vfmaq_n_f32(c, column, tap[2 * pixel]);
        d = vfmaq_n_f32(d, column, tap[3 * pixel]);
    }
    vst1q_f32(acc, a);
    vst1q_f32(acc + 4, b);
    vst1q_f32(acc + 8, c);
    vst1q_f32(acc + 12, d);
}

#define EMX_HAVE_mac_channels_f32
EMX_INLINE void emx_mac_channels_f32(float acc[4], const float *x, const float *w, int32_t n)
{
    const mve_pred16_t first = vctp32q((uint32_t)n);
    const float32x4_t v = n == 4 ? vld1q_f32(x) : vldrwq_z_f32(x, first);
    vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), v, vld1q_f32(w)));
}

#endif
