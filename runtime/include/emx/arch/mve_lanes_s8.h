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

// Of two taps, or of one, the products of sixteen channels are added to sums: lane j of the sums i
// is channel 4 * j + i. x walks along the taps, w along the weights.
#define EMX_TAPS_LOAD(x, w) "vldrb.8 %q[a], [" x "]\n\tvldrb.8 %q[b], [%[w]" w "\n\t"
#define EMX_TAPS_MUL(half, to) "vmull" half ".s8 %q[" to "], %q[a], %q[b]\n\t"
#define EMX_TAPS_ADD(low, high)                                                                    \
    "vmovlb.s16 %q[t], %q[s]\n\tvmovlt.s16 %q[s], %q[s]\n\t"                                       \
    "vadd.i32 %q[" low "], %q[" low "], %q[t]\n\tvadd.i32 %q[" high "], %q[" high "], %q[s]\n\t"
#define EMX_TAPS_BOTH(low, high) "vadd.i16 %q[s], %q[s], %q[t]\n\t" EMX_TAPS_ADD(low, high)
#define EMX_EVEN_OF_TWO                                                                            \
    EMX_TAPS_LOAD("r4", "]")                                                                       \
    EMX_TAPS_MUL("b", "s")                                                                         \
    EMX_TAPS_LOAD("r5", ", #16]")                                                                  \
    EMX_TAPS_MUL("b", "t")                                                                         \
    EMX_TAPS_BOTH("acc0", "acc2")
#define EMX_ODD_OF_TWO                                                                             \
    EMX_TAPS_MUL("t", "s")                                                                         \
    EMX_TAPS_LOAD("r4", "], #32")                                                                  \
    EMX_TAPS_MUL("t", "t")                                                                         \
    EMX_TAPS_BOTH("acc1", "acc3")
#define EMX_BOTH_OF_ONE                                                                            \
    EMX_TAPS_LOAD("r4", "]")                                                                       \
    EMX_TAPS_MUL("b", "s")                                                                         \
    EMX_TAPS_ADD("acc0", "acc2")                                                                   \
    EMX_TAPS_MUL("t", "s")                                                                         \
    EMX_TAPS_ADD("acc1", "acc3")

// Sixteen channels of a pixel from c on, w[taps][16]. Of each channel, the weights of taps 2 i and
// 2 i + 1 are not both -128, so that two products fit 16 bits.
EMX_INLINE void emx_sixteen_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x, int32_t c,
                                       const int8_t *w, const int32_t *q, int8_t *y)
{
    const uint32x4_t bias = emx_multiples_u32(4 * EMX_BLOCK_PARAMS);
    int32x4_t acc0 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS, bias);
    int32x4_t acc1 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 1, bias);
    int32x4_t acc2 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 2, bias);
    int32x4_t acc3 = vldrwq_gather_offset_s32(q + EMX_BLOCK_BIAS + 3, bias);
    int8x16_t s, t, a, b;
    __asm__ volatile(
        "wls lr, %[pairs], 2f\n"
        "1:\n\t"
        "ldrd r4, r5, [%[x]], #8\n\tadd r4, r4, %[c]\n\tadd r5, r5, %[c]\n\t" EMX_EVEN_OF_TWO
            EMX_ODD_OF_TWO "le lr, 1b\n"
        "2:\n\t"
        "tst %[taps], #1\n\tbeq 3f\n\t"
        "ldr r4, [%[x]]\n\tadd r4, r4, %[c]\n\t" EMX_BOTH_OF_ONE "3:"
        : [acc0] "+w"(acc0), [acc1] "+w"(acc1), [acc2] "+w"(acc2), [acc3] "+w"(acc3), [s] "=&w"(s),
          [t] "=&w"(t), [a] "=&w"(a), [b] "=&w"(b), [x] "+r"(x), [w] "+r"(w)
        : [pairs] "r"(p->taps / 2), [taps] "r"(p->taps), [c] "r"(c)
        : "r4", "r5", "lr", "cc", "memory");
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
