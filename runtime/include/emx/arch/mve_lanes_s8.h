// SPDX-License-Identifier: Apache-2.0
// Micro-kernels of four neighbours for Helium: four bytes are a vector of 32-bit numbers.
#ifndef EMX_ARCH_MVE_LANES_S8_H
#define EMX_ARCH_MVE_LANES_S8_H
#include <arm_mve.h>
#include <emx/add_s8.h>
#include <emx/plane_s8.h>

#define EMX_HAVE_add_4_s8
EMX_INLINE void emx_add_4_s8(const int32_t p[EMX_ADD_PARAMS], const int8_t *a, const int8_t *b,
                             int8_t *y)
{
    const int32_t shift = p[EMX_ADD_SHIFT], even = p[EMX_ADD_EVEN];
    int32x4_t v = vmulq_n_s32(vldrbq_s32(a), p[EMX_ADD_A]);
    v = vmlaq_n_s32(v, vldrbq_s32(b), p[EMX_ADD_B]);
    v = vaddq_n_s32(v, p[EMX_ADD_OFFSET]);
    const int32x4_t odd = vshrq_n_s32(vshlq_r_s32(v, 31 - shift), 31); // -1 or 0
    v = vaddq_n_s32(vmlaq_n_s32(v, odd, -even), (int32_t)(1u << (shift - 1)) - (even > 0));
    v = vshlq_r_s32(v, -shift);
    v = vmaxq_s32(vminq_s32(v, vdupq_n_s32(p[EMX_ADD_HI])), vdupq_n_s32(p[EMX_ADD_LO]));
    vstrbq_s32(y, v);
}

#define EMX_HAVE_sum_4_s8
EMX_INLINE void emx_sum_4_s8(int32_t acc[4], const int8_t *x, int32_t step, int32_t n)
{
    int32x4_t sum = vldrwq_s32(acc);
    EMX_UNROLL_4
    for (int32_t t = 0; t < n; t++) {
        sum = vaddq_s32(sum, vldrbq_s32(x));
        x += step;
    }
    vstrwq_s32(acc, sum);
}

#define EMX_HAVE_max_4_s8
EMX_INLINE void emx_max_4_s8(int8_t best[4], const int8_t *x, int32_t step, int32_t n)
{
    int32x4_t most = vldrbq_s32(best);
    EMX_UNROLL_4
    for (int32_t t = 0; t < n; t++) {
        most = vmaxq_s32(most, vldrbq_s32(x));
        x += step;
    }
    vstrbq_s32(best, most);
}

#define EMX_HAVE_mac_taps_s8
EMX_INLINE void emx_mac_taps_s8(int32_t acc[4], const int32_t b[4], const int8_t *const *x,
                                int32_t at, const int8_t *w, int32_t n, int32_t lanes)
{
    int32x4_t sum = vldrwq_s32(b);
    const mve_pred16_t some = vctp32q((uint32_t)lanes);
    for (int32_t t = 0; t < n; t++) {
        const int32x4_t v = lanes == 4 ? vldrbq_s32(x[t] + at) : vldrbq_z_s32(x[t] + at, some);
        sum = vaddq_s32(sum, vmulq_s32(v, vldrbq_s32(w + 4 * t)));
    }
    vstrwq_s32(acc, sum);
}

#endif
