// SPDX-License-Identifier: Apache-2.0
// Micro-kernels of four neighbours for the DSP instructions of Armv7E-M and Armv8-M.
#ifndef EMX_ARCH_DSP_LANES_S8_H
#define EMX_ARCH_DSP_LANES_S8_H
#include <emx/emx.h>

// Two sums of 16 bits: + bytes 0 and 2 of v; + bytes 1 and 3.
EMX_INLINE uint32_t emx_add_even_s8(uint32_t sums, uint32_t v)
{
    uint32_t r;
    __asm__("sxtab16 %0, %1, %2" : "=r"(r) : "r"(sums), "r"(v));
    return r;
}

EMX_INLINE uint32_t emx_add_odd_s8(uint32_t sums, uint32_t v)
{
    uint32_t r;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(r) : "r"(sums), "r"(v));
    return r;
}

#define EMX_HAVE_sum_4_s8
EMX_INLINE void emx_sum_4_s8(int32_t acc[4], const int8_t *x, int32_t step, int32_t n)
{
    while (n > 0) {
        const int32_t some = emx_min_s32(n, 256); // whose sum fits 16 bits
        uint32_t even = 0, odd = 0;
        EMX_UNROLL_4
        for (int32_t t = 0; t < some; t++) {
            uint32_t v;
            memcpy(&v, x, 4);
            even = emx_add_even_s8(even, v);
            odd = emx_add_odd_s8(odd, v);
            x += step;
        }
        acc[0] += (int16_t)even;
        acc[1] += (int16_t)odd;
        acc[2] += (int32_t)even >> 16;
        acc[3] += (int32_t)odd >> 16;
        n -= some;
    }
}

#define EMX_HAVE_max_4_s8
EMX_INLINE void emx_max_4_s8(int8_t best[4], const int8_t *x, int32_t step, int32_t n)
{
    uint32_t most;
    memcpy(&most, best, 4);
    for (int32_t t = 0; t < n; t++) {
        uint32_t v, difference;
        memcpy(&v, x, 4);
        __asm__("ssub8 %1, %2, %0\n\tsel %0, %2, %0"
                : "+r"(most), "=&r"(difference)
                : "r"(v)
                : "cc");
        x += step;
    }
    memcpy(best, &most, 4);
}

#endif
