// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of int8 that do the same to four neighbours, such as channels of a pixel.
// Results are the same to the bit everywhere.
#ifndef EMX_ARCH_GENERIC_LANES_S8_H
#define EMX_ARCH_GENERIC_LANES_S8_H
#include <emx/add_s8.h>
#include <emx/emx.h>

#ifndef EMX_HAVE_add_4_s8
// y[i] = the sum of a[i] and b[i] for i < 4; y may be a or b, or lie before them
EMX_INLINE void emx_add_4_s8(const int32_t p[EMX_ADD_PARAMS], const int8_t *a, const int8_t *b,
                             int8_t *y)
{
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        y[i] = (int8_t)emx_add_s8(p, a[i], b[i]);
    }
}
#endif

#ifndef EMX_HAVE_sum_4_s8
// acc[c] += sum_t x[t * step + c] for t < n
EMX_INLINE void emx_sum_4_s8(int32_t acc[4], const int8_t *x, int32_t step, int32_t n)
{
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            acc[c] += x[t * step + c];
        }
    }
}
#endif

#ifndef EMX_HAVE_max_4_s8
// best[c] = max(best[c], x[t * step + c]) for t < n
EMX_INLINE void emx_max_4_s8(int8_t best[4], const int8_t *x, int32_t step, int32_t n)
{
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            best[c] = x[t * step + c] > best[c] ? x[t * step + c] : best[c];
        }
    }
}
#endif

#ifndef EMX_HAVE_mac_4_s8
// acc[c] += sum_t x[t * step + c] * w[t][c] for c < lanes <= 4; the other sums may get anything
EMX_INLINE void emx_mac_4_s8(int32_t acc[4], const int8_t *x, int32_t step, const int8_t *w,
                             int32_t n, int32_t lanes)
{
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            if (c < lanes) {
                acc[c] += x[t * step + c] * w[4 * t + c];
            }
        }
    }
}
#endif

#endif
