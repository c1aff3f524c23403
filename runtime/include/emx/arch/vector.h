// SPDX-License-Identifier: Apache-2.0
// Micro-kernels in the vector extensions of GCC and Clang: EMX_LANES outputs are one vector, which
// the compiler maps to what the processor has (SSE, AVX, AVX-512, NEON), or to several of these.
#ifndef EMX_ARCH_VECTOR_H
#define EMX_ARCH_VECTOR_H
#include <emx/emx.h>

typedef float emx_lanes_f32_t __attribute__((vector_size(4 * EMX_LANES), aligned(4), may_alias));
typedef int32_t emx_lanes_s32_t __attribute__((vector_size(4 * EMX_LANES), aligned(4), may_alias));
// Half a column: with 16 lanes, many a network has layers of 8 channels.
typedef float emx_half_f32_t __attribute__((vector_size(2 * EMX_LANES), aligned(4), may_alias));
typedef int32_t emx_half_s32_t __attribute__((vector_size(2 * EMX_LANES), aligned(4), may_alias));

#define EMX_LANES_AT(x) (*(emx_lanes_f32_t *)(x))
#define EMX_CONST_LANES_AT(x) (*(const emx_lanes_f32_t *)(x))
#define EMX_HALF_AT(x) (*(emx_half_f32_t *)(x))
#define EMX_CONST_HALF_AT(x) (*(const emx_half_f32_t *)(x))

// v where the lanes of `when` are set, else w
#define EMX_SELECT(kind, when, v, w)                                                               \
    ((kind##_f32_t)(((when) & (kind##_s32_t)(v)) | (~(when) & (kind##_s32_t)(w))))

// emx_clamp_f32 of each lane of v. Comparisons with NaN are false: it stays.
#define EMX_CLAMP(kind, v, lo, hi)                                                                 \
    do {                                                                                           \
        kind##_f32_t low = {0}, high = {0};                                                        \
        low += (lo);                                                                               \
        high += (hi);                                                                              \
        if ((lo) > -INFINITY) {                                                                    \
            (v) = EMX_SELECT(kind, (v) < low, low, v);                                             \
        }                                                                                          \
        if ((hi) < INFINITY) {                                                                     \
            (v) = EMX_SELECT(kind, (v) > high, high, v);                                           \
        }                                                                                          \
    } while (0)

#define EMX_HAVE_start_f32
EMX_INLINE void emx_start_f32(float *acc, const float *b, int lanes)
{
    if (2 * lanes == EMX_LANES) {
        EMX_HALF_AT(acc) = EMX_CONST_HALF_AT(b);
    } else {
        EMX_LANES_AT(acc) = EMX_CONST_LANES_AT(b);
    }
}

#define EMX_HAVE_mac_f32
EMX_INLINE void emx_mac_f32(float *acc, int pixels, int columns, const float *const *x,
                            int32_t step, const float *w, int32_t column, int32_t n)
{
    emx_lanes_f32_t sum[EMX_TILE_VECTORS], weight[EMX_TILE_VECTORS];
    EMX_UNROLL
    for (int i = 0; i < pixels * columns; i++) {
        sum[i] = EMX_LANES_AT(acc + i * EMX_LANES);
    }
    EMX_UNROLL_4
    for (int32_t k = 0; k < n; k++) {
        EMX_UNROLL
        for (int j = 0; j < columns; j++) {
            weight[j] = EMX_CONST_LANES_AT(w + j * column + k * EMX_LANES);
        }
        EMX_UNROLL
        for (int i = 0; i < pixels; i++) {
            const float v = x[i][k * step];
            EMX_UNROLL
            for (int j = 0; j < columns; j++) {
                sum[i * columns + j] += v * weight[j];
            }
        }
    }
    EMX_UNROLL
    for (int i = 0; i < pixels * columns; i++) {
        EMX_LANES_AT(acc + i * EMX_LANES) = sum[i];
    }
}

#define EMX_HAVE_mac_lanes_f32
EMX_INLINE void emx_mac_lanes_f32(float *acc, const float *x, const float *w, int lanes)
{
    if (lanes == EMX_LANES) {
        EMX_LANES_AT(acc) += EMX_CONST_LANES_AT(x) * EMX_CONST_LANES_AT(w);
    } else if (2 * lanes == EMX_LANES) {
        EMX_HALF_AT(acc) += EMX_CONST_HALF_AT(x) * EMX_CONST_HALF_AT(w);
    } else {
        for (int o = 0; o < lanes; o++) {
            acc[o] += x[o] * w[o];
        }
    }
}

#define EMX_HAVE_store_f32
EMX_INLINE void emx_store_f32(float *y, const float *acc, const float *skip, float lo, float hi,
                              int lanes)
{
    if (lanes == EMX_LANES) {
        emx_lanes_f32_t v = EMX_CONST_LANES_AT(acc);
        if (skip) {
            v += EMX_CONST_LANES_AT(skip);
        }
        EMX_CLAMP(emx_lanes, v, lo, hi);
        EMX_LANES_AT(y) = v;
    } else if (2 * lanes == EMX_LANES) {
        emx_half_f32_t v = EMX_CONST_HALF_AT(acc);
        if (skip) {
            v += EMX_CONST_HALF_AT(skip);
        }
        EMX_CLAMP(emx_half, v, lo, hi);
        EMX_HALF_AT(y) = v;
    } else {
        for (int o = 0; o < lanes; o++) {
            y[o] = emx_clamp_f32(skip ? acc[o] + skip[o] : acc[o], lo, hi);
        }
    }
}

#endif
