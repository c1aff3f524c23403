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

// Two floats at p, which moves on, with one instruction.
EMX_INLINE void emx_load_2_f32(float *a, float *b, const float **p)
{
    __asm__("ldrd %0, %1, [%2], #8" : "=r"(*a), "=r"(*b), "+r"(*p) : "m"(*(const float(*)[2]) * p));
}

#define EMX_HAVE_start_f32
EMX_INLINE void emx_start_f32(float *acc, const float *b, int lanes)
{
    (void)lanes; // weights and biases are padded to whole columns
    emx_store_f32x4(acc, emx_load_f32x4(b));
}

#define EMX_HAVE_mac_f32
EMX_INLINE void emx_mac_f32(float *acc, int pixels, int columns, const float *const *x,
                            int32_t step, const float *w, int32_t column, int32_t n)
{
    float32x4_t sum[EMX_TILE_VECTORS];
    const float *at[EMX_TILE_PIXELS];
    EMX_UNROLL
    for (int i = 0; i < pixels * columns; i++) {
        sum[i] = emx_load_f32x4(acc + 4 * i);
    }
    EMX_UNROLL
    for (int i = 0; i < pixels; i++) {
        at[i] = x[i];
    }
    int32_t k = 0;
    for (; step == 1 && k + 2 <= n; k += 2) {
        EMX_UNROLL
        for (int i = 0; i < pixels; i++) {
            float u, v;
            emx_load_2_f32(&u, &v, &at[i]);
            EMX_UNROLL
            for (int j = 0; j < columns; j++) {
                const float *const from = w + j * column + 4 * k;
                float32x4_t *const s = &sum[i * columns + j];
                *s = vfmaq_n_f32(*s, emx_load_f32x4(from), u);
                *s = vfmaq_n_f32(*s, emx_load_f32x4(from + 4), v);
            }
        }
    }
    for (; k < n; k++) {
        EMX_UNROLL
        for (int i = 0; i < pixels; i++) {
            EMX_UNROLL
            for (int j = 0; j < columns; j++) {
                float32x4_t *const s = &sum[i * columns + j];
                *s = vfmaq_n_f32(*s, emx_load_f32x4(w + j * column + 4 * k), x[i][k * step]);
            }
        }
    }
    EMX_UNROLL
    for (int i = 0; i < pixels * columns; i++) {
        emx_store_f32x4(acc + 4 * i, sum[i]);
    }
}

#define EMX_HAVE_mac_lanes_f32
EMX_INLINE void emx_mac_lanes_f32(float *acc, const float *x, const float *w, int lanes)
{
    if (lanes == 4) {
        emx_store_f32x4(acc, vfmaq_f32(emx_load_f32x4(acc), emx_load_f32x4(x), emx_load_f32x4(w)));
    } else {
        for (int32_t o = 0; o < lanes; o++) {
            acc[o] += x[o] * w[o];
        }
    }
}

// v; bound in the lanes where a > b, which are none with NaN ("less" of Helium is true for it).
// In assembly, as GCC 12 moves the predicate of an intrinsic to a core register and back.
EMX_INLINE float32x4_t emx_if_greater_f32x4(float32x4_t v, float32x4_t bound, float32x4_t a,
                                            float32x4_t b)
{
    mve_pred16_t changed;
    __asm__("vpt.f32 gt, %q3, %q4\n\tvmovt %q0, %q2"
            : "+w"(v), "=Up"(changed)
            : "w"(bound), "w"(a), "w"(b));
    return v;
}

#define EMX_HAVE_store_f32
EMX_INLINE void emx_store_f32(float *y, const float *acc, const float *skip, float lo, float hi,
                              int lanes)
{
    if (lanes == 4) {
        float32x4_t v = emx_load_f32x4(acc);
        if (skip) {
            v = vaddq_f32(v, emx_load_f32x4(skip));
        }
        if (lo > -INFINITY) {
            const float32x4_t low = vdupq_n_f32(lo);
            v = emx_if_greater_f32x4(v, low, low, v);
        }
        if (hi < INFINITY) {
            const float32x4_t high = vdupq_n_f32(hi);
            v = emx_if_greater_f32x4(v, high, v, high);
        }
        emx_store_f32x4(y, v);
    } else {
        for (int32_t o = 0; o < lanes; o++) {
            y[o] = emx_clamp_f32(skip ? acc[o] + skip[o] : acc[o], lo, hi);
        }
    }
}

#endif
