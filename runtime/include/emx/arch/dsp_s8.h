// SPDX-License-Identifier: Apache-2.0
// Micro-kernels for the DSP instructions of Armv7E-M and Armv8-M: two products in one instruction.
//
// A pair holds, for each four inputs, four words of two 16-bit numbers: inputs 0 and 2 of the first
// pixel, of the second, inputs 1 and 3 of the first, of the second. Weights: for each four inputs
// four words, one for each output.
#ifndef EMX_ARCH_DSP_S8_H
#define EMX_ARCH_DSP_S8_H
#include <emx/emx.h>

#define EMX_DEPTH 4
#define EMX_STAGED 4

// Four bytes, or two halfwords, from memory of any alignment.
EMX_INLINE uint32_t emx_load_word_s8(const int8_t *x)
{
    uint32_t v;
    memcpy(&v, x, 4);
    return v;
}

EMX_INLINE void emx_store_word_s8(int8_t *y, uint32_t v) { memcpy(y, &v, 4); }

// Bytes 0 and 2 as halfwords; bytes 1 and 3.
EMX_INLINE uint32_t emx_even_s8(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}

EMX_INLINE uint32_t emx_odd_s8(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}

EMX_INLINE int32_t emx_mac_2_s16(int32_t acc, uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

#define EMX_HAVE_stage_2_s8
EMX_INLINE void emx_stage_2_s8(int8_t *pair, int32_t depth, int32_t at, const int8_t *x0,
                               const int8_t *x1, int32_t n)
{
    (void)depth;
    for (int32_t k = 0; k < n; k += 4) {
        const uint32_t a = emx_load_word_s8(x0 + k), b = emx_load_word_s8(x1 + k);
        int8_t *const to = pair + 4 * (at + k);
        emx_store_word_s8(to, emx_even_s8(a));
        emx_store_word_s8(to + 4, emx_even_s8(b));
        emx_store_word_s8(to + 8, emx_odd_s8(a));
        emx_store_word_s8(to + 12, emx_odd_s8(b));
    }
}

#define EMX_HAVE_dot_2x4_s8
EMX_INLINE void emx_dot_2x4_s8(int32_t acc[8], const int32_t b[4], const int8_t *pair,
                               const int8_t *w, int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = acc[4 + o] = b[o];
    }
    for (int32_t k = 0; k < depth; k += 4) {
        const int8_t *const x = pair + 4 * k;
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            const uint32_t v = emx_load_word_s8(w + 4 * k + 4 * o);
            const uint32_t even = emx_even_s8(v), odd = emx_odd_s8(v);
            acc[o] = emx_mac_2_s16(acc[o], emx_load_word_s8(x), even);
            acc[4 + o] = emx_mac_2_s16(acc[4 + o], emx_load_word_s8(x + 4), even);
            acc[o] = emx_mac_2_s16(acc[o], emx_load_word_s8(x + 8), odd);
            acc[4 + o] = emx_mac_2_s16(acc[4 + o], emx_load_word_s8(x + 12), odd);
        }
    }
}

#define EMX_HAVE_dot_1x4_s8
EMX_INLINE void emx_dot_1x4_s8(int32_t acc[4], const int32_t b[4], const int8_t *x, const int8_t *w,
                               int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = b[o];
    }
    for (int32_t k = 0; k < depth; k += 4) {
        const uint32_t a = emx_load_word_s8(x + k);
        const uint32_t x_even = emx_even_s8(a), x_odd = emx_odd_s8(a);
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            const uint32_t v = emx_load_word_s8(w + 4 * k + 4 * o);
            acc[o] = emx_mac_2_s16(acc[o], x_even, emx_even_s8(v));
            acc[o] = emx_mac_2_s16(acc[o], x_odd, emx_odd_s8(v));
        }
    }
}

#endif
