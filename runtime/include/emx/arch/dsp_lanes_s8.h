// SPDX-License-Identifier: Apache-2.0
// Micro-kernels of four neighbours for the DSP instructions of Armv7E-M and Armv8-M.
#ifndef EMX_ARCH_DSP_LANES_S8_H
#define EMX_ARCH_DSP_LANES_S8_H
#include <emx/plane_s8.h>

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

// acc[c] += x[c] * w[c] for c < 4
EMX_INLINE void emx_mac_word_s8(int32_t acc[4], const int8_t *x, const int8_t *w)
{
    uint32_t u, v, u_odd, v_odd;
    memcpy(&u, x, 4);
    memcpy(&v, w, 4);
    __asm__("sxtb16 %6, %4, ror #8\n\t"
            "sxtb16 %4, %4\n\t"
            "sxtb16 %7, %5, ror #8\n\t"
            "sxtb16 %5, %5\n\t"
            "smlabb %0, %4, %5, %0\n\t"
            "smlatt %2, %4, %5, %2\n\t"
            "smlabb %1, %6, %7, %1\n\t"
            "smlatt %3, %6, %7, %3"
            : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3]), "+r"(u), "+r"(v),
              "=&r"(u_odd), "=&r"(v_odd));
}

#define EMX_HAVE_mac_taps_s8
EMX_INLINE void emx_mac_taps_s8(int32_t acc[4], const int32_t b[4], const int8_t *const *x,
                                int32_t at, const int8_t *w, int32_t n, int32_t lanes)
{
    EMX_UNROLL
    for (int c = 0; c < 4; c++) {
        acc[c] = b[c];
    }
    for (int32_t t = 0; t < n; t++) {
        if (lanes == 4) {
            emx_mac_word_s8(acc, x[t] + at, w + 4 * t);
        } else {
            for (int32_t c = 0; c < lanes; c++) {
                acc[c] += x[t][at + c] * w[4 * t + c];
            }
        }
    }
}

#define EMX_HAVE_scale_4_s8
EMX_INLINE void emx_scale_4_s8(int8_t *y, const int32_t acc[4], const int32_t *q,
                               const emx_bounds_s8_t *in, int32_t n)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        if (o < n) {
            const int32_t m = q[EMX_BLOCK_M + 2 * o], start = q[EMX_BLOCK_START + 2 * o];
            if (in->lo == INT8_MIN && in->hi == INT8_MAX) {
                int32_t v;
                __asm__("lsl %0, %1, %2\n\tsmmla %0, %0, %2, %3\n\tssat %0, #8, %0, asr #9"
                        : "=&r"(v)
                        : "r"(acc[o]), "r"(m), "r"(start));
                y[o] = (int8_t)v;
            } else {
                y[o] = (int8_t)emx_scale_s8(acc[o], m, start, in);
            }
        }
    }
}

// What the assembly keeps in memory.
typedef struct {
    const int8_t *const *x, *const *end; // the taps
    const int32_t *q;
    int8_t *y;
    int32_t channels;
} emx_taps_state_s8_t;

#define EMX_TAP                                                                                    \
    "ldr lr, [r0], #4\n\tldr r11, [r2], #4\n\tldr lr, [lr, r1]\n\t"                                \
    "sxtb16 r12, r11, ror #8\n\tsxtb16 r11, r11\n\t"                                               \
    "sxtb16 r10, lr, ror #8\n\tsxtb16 r9, lr\n\t"                                                  \
    "smlabb r4, r9, r11, r4\n\tsmlatt r6, r9, r11, r6\n\t"                                         \
    "smlabb r5, r10, r12, r5\n\tsmlatt r8, r10, r12, r8\n\t"
#define EMX_TAP_RESULT(acc)                                                                        \
    "ldrd r10, r11, [r9], #8\n\tlsl " acc ", " acc ", r10\n\t"                                     \
    "smmla " acc ", " acc ", r10, r11\n\tssat " acc ", #8, " acc ", asr #9\n\t"                    \
    "strb " acc ", [lr], #1\n\t"

// All blocks of a pixel; taps are a multiple of three.
EMX_SHARED void emx_taps_by_three_s8(emx_taps_state_s8_t *p, const int8_t *w)
{
    register const int8_t *w_ __asm__("r2") = w;
    register emx_taps_state_s8_t *p_ __asm__("r3") = p;
    __asm__ volatile("mov r1, #0\n"
                     "1:\n\t"
                     "ldr r0, [r3]\n\t"
                     "ldr r9, [r3, #8]\n\t"
                     "ldmia r9!, {r4, r5, r6, r8}\n\t"
                     "str r9, [r3, #8]\n"
                     "2:\n\t" EMX_TAP EMX_TAP EMX_TAP "ldr r9, [r3, #4]\n\t"
                     "cmp r0, r9\n\t"
                     "bne 2b\n\t"
                     "ldrd r9, lr, [r3, #8]\n\t" EMX_TAP_RESULT("r4") EMX_TAP_RESULT("r5")
                         EMX_TAP_RESULT("r6") EMX_TAP_RESULT("r8") "strd r9, lr, [r3, #8]\n\t"
                                                                   "ldr r9, [r3, #16]\n\t"
                                                                   "add r1, r1, #4\n\t"
                                                                   "cmp r1, r9\n\t"
                                                                   "bne 1b"
                     : "+r"(w_)
                     : "r"(p_)
                     : "r0", "r1", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc",
                       "memory");
}

#define EMX_HAVE_whole_of_taps_s8
EMX_INLINE bool emx_whole_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x,
                                     const int8_t *w, const int32_t *q, int8_t *y)
{
    if (p->taps % 3 != 0 || p->wide || p->in.lo != INT8_MIN || p->in.hi != INT8_MAX) {
        return false;
    }
    emx_taps_state_s8_t state = {x, x + p->taps, q, y, p->channels - p->tail};
    if (state.channels > 0) {
        emx_taps_by_three_s8(&state, w);
    }
    return true;
}

#endif
