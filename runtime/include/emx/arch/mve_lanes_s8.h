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

// j * step. Computed anew for each use, for a loop between two needs the register.
EMX_INLINE uint32x4_t emx_multiples_u32(uint32_t step)
{
    __asm__ volatile("" : "+r"(step));
    return vmulq_n_u32(vidupq_n_u32(0, 1), step);
}

// acc[j] scaled before it is clamped; at[j] is where its parameters are, less q.
EMX_INLINE int32x4_t emx_scaled_of_taps_s8(int32x4_t acc, const int32_t *q, uint32x4_t at)
{
    const int32x4_t m = vldrwq_gather_offset_s32(q + EMX_BLOCK_M, at);
    const int32x4_t start = vldrwq_gather_offset_s32(q + EMX_BLOCK_START, at);
    return vshrq_n_s32(vaddq_s32(vmulhq_s32(vshlq_s32(acc, m), m), start), EMX_SCALE_SHIFT);
}

// Sixteen channels of a pixel from c on: four blocks, whose weights of a tap are `from` w on. Lane
// j of the sums i is channel 4 * j + i.
EMX_INLINE void emx_four_blocks_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x,
                                           int32_t c, const int8_t *w, uint32x4_t from,
                                           const int32_t *q, int8_t *y)
{
    const uint32x4_t bias = emx_multiples_u32(4 * EMX_BLOCK_PARAMS);
    int32x4_t acc0 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS, bias);
    int32x4_t acc1 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 1, bias);
    int32x4_t acc2 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 2, bias);
    int32x4_t acc3 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 3, bias);
    EMX_ROLLED // else the compiler loads everything first, and runs out of registers
        for (int32_t t = 0; t < p->taps; t++)
    {
        const int32_t *const tap = (const int32_t *)(const void *)(w + 4 * t);
        const int8x16_t v = vldrbq_s8(x[t] + c);
        const int8x16_t u = vreinterpretq_s8_s32(vldrwq_gather_offset_s32(tap, from));
        const int16x8_t even = vmullbq_int_s8(v, u), odd = vmulltq_int_s8(v, u);
        acc0 = vaddq_s32(acc0, vmovlbq_s16(even));
        acc1 = vaddq_s32(acc1, vmovlbq_s16(odd));
        acc2 = vaddq_s32(acc2, vmovltq_s16(even));
        acc3 = vaddq_s32(acc3, vmovltq_s16(odd));
    }
    const uint32x4_t at = emx_multiples_u32(4 * EMX_BLOCK_PARAMS);
    const int32x4_t v0 = emx_scaled_of_taps_s8(acc0, q, at);
    const int32x4_t v1 = emx_scaled_of_taps_s8(acc1, q + 2, at);
    const int32x4_t v2 = emx_scaled_of_taps_s8(acc2, q + 4, at);
    const int32x4_t v3 = emx_scaled_of_taps_s8(acc3, q + 6, at);
    const int16x8_t even = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(v0), v0), v2);
    const int16x8_t odd = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(v1), v1), v3);
    int8x16_t v = vqmovntq_s16(vqmovnbq_s16(vreinterpretq_s8_s16(even), even), odd);
    if (p->in.lo > INT8_MIN || p->in.hi < INT8_MAX) {
        v = vminq_s8(v, vdupq_n_s8((int8_t)p->in.hi));
        v = vmaxq_s8(v, vdupq_n_s8((int8_t)p->in.lo));
    }
    vstrbq_s8(y + c, v);
}

#endif
