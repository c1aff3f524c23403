// SPDX-License-Identifier: Apache-2.0
// y[n][i] = clamp((z[i] * m[i] + c[i]) / 2^s) with z[i] = (x[n][i] - mean) / sqrt(var + eps)
// in 2^-unit, mean and var those of x[n]; or, of an RMS norm, the mean 0 and the mean square
//
//   x, y  [rows][len]     m, c  [len]
//
// To the bit, with S the sum of a row, or len * x_zero, and V its squares around S / len, times
// len:
//
//   v * 2^(2e) = (V << 14) + epsilon, rounded down, 2^30 <= v < 2^32
//   z[i] = ((len * x[n][i] - S) * 2^t) * rsqrt(v) >> 32 with t = unit - 7 - e, rsqrt that of
//          emx/fixed.h; if t < 0, rsqrt(v) is shifted instead
//   y[n][i] = clamp(((z[i] * m[i] >> 32) + c[i]) >> s), c with the zero point and a half in it
//
// len <= 2^16, so nothing overflows: |z| <= 2^28, |m| <= 2^30, |c| < 2^30. No scratch. Row after
// row, all of it read before the first of y; so y may start at x or anywhere before it.
#ifndef EMX_KERNELS_LAYER_NORM_S8_H
#define EMX_KERNELS_LAYER_NORM_S8_H
#include <emx/fixed.h>
#include <emx/quant.h>

typedef struct {
    int32_t rows, len;
    int64_t epsilon;
    int32_t x_zero, unit, s;
    int32_t lo, hi;
} emx_layer_norm_s8_t;

EMX_INLINE void emx_norm_row_s8(const emx_layer_norm_s8_t *p, bool centred, const int8_t *x,
                                const int32_t *m, const int32_t *c, int8_t *y)
{
    int32_t sum = 0, squares = 0;
    for (int32_t i = 0; i < p->len; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    const int32_t centre = centred ? sum : p->len * p->x_zero;
    const int64_t around = (int64_t)p->len * squares - (int64_t)(2 * sum - centre) * centre;
    uint64_t v = ((uint64_t)around << 14) + (uint64_t)p->epsilon;
    const int32_t t = p->unit - 7 - emx_normalise_even_u64(&v);
    const int32_t scale = (int32_t)(emx_rsqrt_u32((uint32_t)v) >> emx_max_s32(-t, 0));
    const int32_t left = emx_clamp_s32(t, 0, 31); // larger where all elements are the mean
    const uint32_t step = (uint32_t)p->len << left, start = (uint32_t)centre << left;
    for (int32_t i = 0; i < p->len; i++) {
        const int32_t z = emx_high_s32((int32_t)((uint32_t)x[i] * step - start), scale);
        y[i] = (int8_t)emx_clamp_s32((emx_high_s32(z, m[i]) + c[i]) >> p->s, p->lo, p->hi);
    }
}

EMX_INLINE void emx_layer_norm_s8(const emx_layer_norm_s8_t *p, const int8_t *x, const int32_t *m,
                                  const int32_t *c, int8_t *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        emx_norm_row_s8(p, true, x + n * p->len, m, c, y + n * p->len);
    }
}

EMX_INLINE void emx_rms_norm_s8(const emx_layer_norm_s8_t *p, const int8_t *x, const int32_t *m,
                                const int32_t *c, int8_t *y)
{
    for (int32_t n = 0; n < p->rows; n++) {
        emx_norm_row_s8(p, false, x + n * p->len, m, c, y + n * p->len);
    }
}

#endif
