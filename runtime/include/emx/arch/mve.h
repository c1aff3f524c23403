// SPDX-License-Identifier: Apache-2.0
// Micro-kernels for Helium (Armv8.1-M MVE with floating point): four outputs are one vector.
#ifndef EMX_ARCH_MVE_H
#define EMX_ARCH_MVE_H
#include <arm_mve.h>
#include <emx/emx.h>

// Memory is read and written through this type: the intrinsics vld1q_f32 and vst1q_f32 of GCC 12
// are no float accesses to its alias analysis, which then moves them across those that are.
typedef float emx_f32x4_t __attribute__((vector_size(16), aligned(4), may_alias));

EMX_INLINE float32x4_t emx_load_f32x4(const float *x)
{
    return (float32x4_t) * (const emx_f32x4_t *)x;
}

EMX_INLINE void emx_store_f32x4(float *y, float32x4_t v) { *(emx_f32x4_t *)y = (emx_f32x4_t)v; }

#define EMX_HAVE_mac_1x4_f32
EMX_INLINE void emx_mac_1x4_f32(float acc[4], const float *x, int32_t step, const float *w,
                                int32_t n)
{
    float32x4_t a = emx_load_f32x4(acc);
    for (int32_t k = 0; k < n; k++) {
        a = vfmaq_n_f32(a, emx_load_f32x4(w + 4 * k), x[k * step]);
    }
    emx_store_f32x4(acc, a);
}

#define EMX_HAVE_mac_4x4_f32
EMX_INLINE void emx_mac_4x4_f32(float acc[16], const float *x, int32_t pixel, int32_t step,
                                const float *w, int32_t n)
{
    float32x4_t a = emx_load_f32x4(acc);
    float32x4_t b = emx_load_f32x4(acc + 4);
    float32x4_t c = emx_load_f32x4(acc + 8);
    float32x4_t d = emx_load_f32x4(acc + 12);
    for (int32_t k = 0; k < n; k++) {
        const float32x4_t column = emx_load_f32x4(w + 4 * k);
        const float *const tap = x + k * step;
        a = vfmaq_n_f32(a, column, tap[0]);
        b = vfmaq_n_f32(b, column, tap[pixel]);
        c = vfmaq_n_f32(c, column, tap[2 * pixel]);
        d = vfmaq_n_f32(d, column, tap[3 * pixel]);
    }
    emx_store_f32x4(acc, a);
    emx_store_f32x4(acc + 4, b);
    emx_store_f32x4(acc + 8, c);
    emx_store_f32x4(acc + 12, d);
}

#define EMX_HAVE_mac_channels_f32
EMX_INLINE void emx_mac_channels_f32(float acc[4], const float *x, const float *w, int32_t n)
{
    if (n == 4) {
        emx_store_f32x4(acc, vfmaq_f32(emx_load_f32x4(acc), emx_load_f32x4(x), emx_load_f32x4(w)));
    } else {
        for (int32_t o = 0; o < n; o++) {
            acc[o] += x[o] * w[o];
        }
    }
}

#define EMX_HAVE_store_4_f32
EMX_INLINE void emx_store_4_f32(float *y, const float acc[4], const float *skip, float lo, float hi,
                                int32_t n)
{
    if (n == 4) {
        float32x4_t v = emx_load_f32x4(acc);
        if (skip) {
            v = vaddq_f32(v, emx_load_f32x4(skip));
        }
        if (lo > -INFINITY) { // NaN stays: "greater" is false for it, "less" of Helium is not
            const float32x4_t low = vdupq_n_f32(lo);
            v = vpselq_f32(low, v, vcmpgtq_f32(low, v));
        }
        if (hi < INFINITY) {
            v = vpselq_f32(vdupq_n_f32(hi), v, vcmpgtq_n_f32(v, hi));
        }
        emx_store_f32x4(y, v);
    } else {
        for (int32_t o = 0; o < n; o++) {
            y[o] = emx_clamp_f32(skip ? acc[o] + skip[o] : acc[o], lo, hi);
        }
    }
}

#endif
