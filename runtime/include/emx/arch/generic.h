// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels: the narrow waist between the kernels and an instruction set.
//
// Weights come in columns of EMX_LANES outputs, w[k][EMX_LANES], 16-byte aligned. Sums run over k
// in ascending order, one accumulator for each output, so the result does not depend on the tile.
// `pixels`, `columns` and, unless noted, `lanes` are constants where these are called.
#ifndef EMX_ARCH_GENERIC_H
#define EMX_ARCH_GENERIC_H
#include <emx/emx.h>

#ifndef EMX_HAVE_start_f32
// acc[o] = b[o] for o < lanes; the others may get anything
EMX_INLINE void emx_start_f32(float *acc, const float *b, int lanes)
{
    EMX_UNROLL
    for (int o = 0; o < EMX_LANES; o++) {
        acc[o] = o < lanes ? b[o] : 0.0f;
    }
}
#endif

#ifndef EMX_HAVE_mac_f32
// acc[i][j][o] += sum_k x[i][k * step] * w[j * column + k * EMX_LANES + o]
//   for i < pixels, j < columns, o < EMX_LANES
EMX_INLINE void emx_mac_f32(float *acc, int pixels, int columns, const float *const *x,
                            int32_t step, const float *w, int32_t column, int32_t n)
{
    EMX_UNROLL_2
    for (int32_t k = 0; k < n; k++) {
        EMX_UNROLL
        for (int i = 0; i < pixels; i++) {
            const float v = x[i][k * step];
            EMX_UNROLL
            for (int j = 0; j < columns * EMX_LANES; j++) {
                const int32_t at = j / EMX_LANES * column + k * EMX_LANES + j % EMX_LANES;
                acc[i * columns * EMX_LANES + j] += v * w[at];
            }
        }
    }
}
#endif

#ifndef EMX_HAVE_mac_lanes_f32
// acc[o] += x[o] * w[o] for o < lanes
EMX_INLINE void emx_mac_lanes_f32(float *acc, const float *x, const float *w, int lanes)
{
    EMX_UNROLL
    for (int o = 0; o < EMX_LANES; o++) {
        if (o < lanes) {
            acc[o] += x[o] * w[o];
        }
    }
}
#endif

#ifndef EMX_HAVE_store_f32
// y[o] = clamp(acc[o] + skip[o]) for o < lanes; skip may be null.
EMX_INLINE void emx_store_f32(float *y, const float *acc, const float *skip, float lo, float hi,
                              int lanes)
{
    EMX_UNROLL
    for (int o = 0; o < EMX_LANES; o++) {
        if (o < lanes) {
            const float v = skip ? acc[o] + skip[o] : acc[o];
            y[o] = emx_clamp_f32(v, lo, hi);
        }
    }
}
#endif

#endif
