// SPDX-License-Identifier: Apache-2.0
// Depthwise layers with the DSP instructions of Armv7E-M and Armv8-M: two products in one.
//
// The ring holds halfwords, two columns in a word; the words of all rows of a pair of columns lie
// beside each other. Weights lie before it in words too. Where the first column of an output is
// even, its words are (w0, w1), (w2, w3), ...; where it is odd, (0, w0), (w1, w2), ...
//
// 3x3 taps take (w0, w1) and (w1, w2) of each row for both, and half of a word for what is left.
// These stay in registers, in the order of the ring: row t is in slot t % 3.
#ifndef EMX_ARCH_DSP_PLANE_S8_H
#define EMX_ARCH_DSP_PLANE_S8_H
#include <emx/plane_s8.h>

#define EMX_HAVE_plane_s8

// acc + the products of both halves; of the lower half of a and the upper of b; of the upper half
// of a and the lower of b
EMX_INLINE int32_t emx_mac_both_s16(int32_t acc, uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

EMX_INLINE int32_t emx_mac_low_high_s16(int32_t acc, uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

EMX_INLINE int32_t emx_mac_high_low_s16(int32_t acc, uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("smlatb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

EMX_INLINE uint32_t emx_both_s16(int32_t low, int32_t high)
{
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(low), "r"(high));
    return r;
}

EMX_INLINE uint32_t emx_plane_load_s8(const int8_t *ring)
{
    uint32_t v;
    memcpy(&v, ring, 4);
    return v;
}

EMX_INLINE void emx_plane_store_s8(int8_t *ring, uint32_t v) { memcpy(ring, &v, 4); }

EMX_INLINE void emx_plane_half_s8(int8_t *ring, int32_t v)
{
    const int16_t half = (int16_t)v;
    memcpy(ring, &half, 2);
}

EMX_INLINE bool emx_plane_3x3_s8(const emx_plane_s8_t *p)
{
    return p->kernel_h == 3 && p->kernel_w == 3 && p->dilation_h == 1 && p->dilation_w == 1 &&
           p->stride_w <= 2;
}

// What emx_plane_outputs_1_s8 needs of a channel, at the beginning of scratch.
typedef struct {
    int32_t b, m, start, y_col; // sum before the weights, and what makes a result of it
    const int8_t *end;          // of y, but for an odd output
    int32_t odd;                // whether there is one
    int32_t saved;
} emx_plane_3x3_s8_t;

// Whether they do: otherwise results are clamped closer or scaled otherwise, output by output.
EMX_INLINE bool emx_plane_simple_s8(const emx_plane_s8_t *p)
{
    return p->folded && !p->wide && p->to.lo == INT8_MIN && p->to.hi == INT8_MAX;
}

// Words of weights of a row for an even first column, and for an odd one.
EMX_INLINE int32_t emx_plane_even_s8(const emx_plane_s8_t *p)
{
    return (emx_plane_reach_w_s8(p) + 1) / 2;
}

EMX_INLINE int32_t emx_plane_odd_s8(const emx_plane_s8_t *p)
{
    return p->stride_w % 2 ? emx_plane_reach_w_s8(p) / 2 + 1 : 0;
}

// The ring; the weights lie before it.
EMX_INLINE int8_t *emx_plane_ring_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    const int32_t words = p->kernel_h * (emx_plane_even_s8(p) + emx_plane_odd_s8(p));
    return scratch + 4 * (emx_plane_3x3_s8(p) ? 7 + 10 : words);
}

EMX_INLINE int32_t emx_plane_rows_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 1;
}

EMX_INLINE int32_t emx_plane_slots_s8(const emx_plane_s8_t *p) { return emx_plane_reach_h_s8(p); }

EMX_INLINE void emx_plane_start_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    const int32_t pairs = (emx_plane_columns_s8(p) + 1) / 2;
    int8_t *const ring = emx_plane_ring_s8(p, scratch);
    for (int32_t i = 0; i < pairs * emx_plane_reach_h_s8(p); i++) {
        emx_plane_store_s8(ring + 4 * i, emx_both_s16(p->x_zero, p->x_zero));
    }
}

// The weight of column `at` of row i: 0 between the taps and beyond them.
EMX_INLINE int32_t emx_plane_weight_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                       int32_t i, int32_t at)
{
    const int32_t j = at / p->dilation_w;
    const bool tap = at >= 0 && at % p->dilation_w == 0 && j < p->kernel_w;
    return tap ? c->w[4 * (i * p->kernel_w + j)] * (1 << (p->folded ? c->k : 0)) : 0;
}

EMX_INLINE void emx_plane_weights_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                     int8_t *scratch)
{
    if (emx_plane_3x3_s8(p)) {
        emx_plane_3x3_s8_t *const q = (emx_plane_3x3_s8_t *)(void *)scratch;
        int8_t *const to = scratch + 28;
        q->b = p->folded ? emx_shift_left_s32(c->b, c->k) : c->b;
        q->m = c->m;
        q->start = emx_result_start(p->to.zero);
        q->y_col = p->y_col;
        q->odd = p->out_w % 2;
        EMX_UNROLL
        for (int i = 0; i < 3; i++) {
            const int32_t w0 = emx_plane_weight_s8(p, c, i, 0);
            const int32_t w1 = emx_plane_weight_s8(p, c, i, 1);
            const int32_t w2 = emx_plane_weight_s8(p, c, i, 2);
            EMX_UNROLL
            for (int row = i; row < 5; row += 3) {
                emx_plane_store_s8(to + 8 * row, emx_both_s16(w0, w1));
                emx_plane_store_s8(to + 8 * row + 4, emx_both_s16(w1, w2));
            }
        }
    } else {
        for (int32_t i = 0; i < p->kernel_h; i++) {
            for (int32_t j = 0; j < emx_plane_even_s8(p) + emx_plane_odd_s8(p); j++) {
                const int32_t odd = j - emx_plane_even_s8(p);
                const int32_t at = odd < 0 ? 2 * j : 2 * odd - 1;
                emx_plane_store_s8(scratch, emx_both_s16(emx_plane_weight_s8(p, c, i, at),
                                                         emx_plane_weight_s8(p, c, i, at + 1)));
                scratch += 4;
            }
        }
    }
}

EMX_INLINE void emx_plane_stage_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t slot,
                                   const int8_t *x)
{
    const int32_t height = emx_plane_reach_h_s8(p), pair = 4 * height;
    int8_t *const row = emx_plane_ring_s8(p, scratch) + 4 * slot;
    if (x) {
        int8_t *first = row + p->pad_left / 2 * pair + p->pad_left % 2 * 2;
        int8_t *second = row + (p->pad_left + 1) / 2 * pair + (p->pad_left + 1) % 2 * 2;
        int32_t i = 0;
        EMX_UNROLL_2
        for (; i + 2 <= p->used; i += 2) {
            emx_plane_half_s8(first, x[0]);
            emx_plane_half_s8(second, x[p->x_col]);
            x += 2 * p->x_col;
            first += pair;
            second += pair;
        }
        if (i < p->used) {
            emx_plane_half_s8(first, x[0]);
        }
    } else {
        for (int32_t i = 0; i < (emx_plane_columns_s8(p) + 1) / 2; i++) {
            emx_plane_store_s8(row + i * pair, emx_both_s16(p->x_zero, p->x_zero));
        }
    }
}

EMX_INLINE int8_t emx_plane_result_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                      int32_t acc)
{
    return (int8_t)(p->wide ? emx_requantise_wide_s8(acc, c->m, c->k, &p->to)
                            : emx_requantise_s8(acc, c->m, p->folded ? 0 : c->k, &p->to));
}

// One output of any kernel; i is its first column.
EMX_INLINE int32_t emx_plane_sum_s8(const emx_plane_s8_t *p, const int8_t *w, const int8_t *ring,
                                    int32_t slot, int32_t i, int32_t acc)
{
    const int32_t height = emx_plane_reach_h_s8(p);
    const int32_t even = emx_plane_even_s8(p), odd = emx_plane_odd_s8(p);
    const int32_t words = p->stride_w % 2 && i % 2 ? odd : even;
    const int8_t *of = w + (p->stride_w % 2 && i % 2 ? 4 * even : 0);
    for (int32_t ky = 0; ky < p->kernel_h; ky++) {
        const int8_t *const x = ring + 4 * (i / 2 * height + slot);
        for (int32_t k = 0; k < words; k++) {
            acc = emx_mac_both_s16(acc, emx_plane_load_s8(x + 4 * k * height),
                                   emx_plane_load_s8(of + 4 * k));
        }
        of += 4 * (even + odd);
        slot += p->dilation_h;
        slot -= slot < height ? 0 : height;
    }
    return acc;
}

#define EMX_PLANE_LOAD(move) "ldrd r12, lr, [r1]" move "\n\t"
#define EMX_PLANE_MAC(op, acc, word, w) #op " " #acc ", " #word ", " #w ", " #acc "\n\t"

// The first output in r10, from words (x0, x1) of the three slots, then (x2, x3); the weights of the
// slots are r4, r6, r8 (w0, w1) and r5, r7, r9 (w1, w2). In r11 the second, which starts one
// or two columns later. Each begins as r11.
#define EMX_PLANE_STRIDE_1                                                                         \
    EMX_PLANE_LOAD(", #8")                                                                         \
    "smlad r10, r12, r4, r11\n\t" EMX_PLANE_MAC(smlatb, r11, r12, r4)                              \
        EMX_PLANE_MAC(smlad, r10, lr, r6) EMX_PLANE_MAC(smlatb, r11, lr, r6)                       \
            EMX_PLANE_LOAD(", #8") EMX_PLANE_MAC(smlad, r10, r12, r8)                              \
                EMX_PLANE_MAC(smlatb, r11, r12, r8) EMX_PLANE_MAC(smlabt, r10, lr, r5)             \
                    EMX_PLANE_MAC(smlad, r11, lr, r5) EMX_PLANE_LOAD(", #-4")                      \
                        EMX_PLANE_MAC(smlabt, r10, r12, r7) EMX_PLANE_MAC(smlad, r11, r12, r7)     \
                            EMX_PLANE_MAC(smlabt, r10, lr, r9) EMX_PLANE_MAC(smlad, r11, lr, r9)

#define EMX_PLANE_STRIDE_2                                                                         \
    EMX_PLANE_LOAD(", #8")                                                                         \
    "smlad r10, r12, r4, r11\n\t" EMX_PLANE_MAC(smlad, r10, lr, r6) EMX_PLANE_LOAD(", #8")         \
        EMX_PLANE_MAC(smlad, r10, r12, r8) EMX_PLANE_MAC(smlabt, r10, lr, r5)                      \
            EMX_PLANE_MAC(smlad, r11, lr, r4) EMX_PLANE_LOAD(", #8")                               \
                EMX_PLANE_MAC(smlabt, r10, r12, r7) EMX_PLANE_MAC(smlad, r11, r12, r6)             \
                    EMX_PLANE_MAC(smlabt, r10, lr, r9) EMX_PLANE_MAC(smlad, r11, lr, r8)           \
                        EMX_PLANE_LOAD("") EMX_PLANE_MAC(smlabt, r11, r12, r5) EMX_PLANE_MAC(      \
                            smlabt, r11, lr,                                                       \
                            r7) "ldr r12, [r1, #8]\n\t" EMX_PLANE_MAC(smlabt, r11, r12, r9)

// What is left of an odd number of outputs.
#define EMX_PLANE_LAST                                                                             \
    "ldr r10, [r0]\n\t" EMX_PLANE_LOAD(", #8") EMX_PLANE_MAC(smlad, r10, r12, r4)                  \
        EMX_PLANE_MAC(smlad, r10, lr, r6) EMX_PLANE_LOAD(", #8")                                   \
            EMX_PLANE_MAC(smlad, r10, r12, r8) EMX_PLANE_MAC(smlabt, r10, lr, r5)                  \
                EMX_PLANE_LOAD("") EMX_PLANE_MAC(smlabt, r10, r12, r7)                             \
                    EMX_PLANE_MAC(smlabt, r10, lr, r9) "ldrd r12, lr, [r0, #4]\n\t"                \
                                                       "smmla r10, r10, r12, lr\n\t"               \
                                                       "ssat r10, #8, r10, asr #9\n\t"             \
                                                       "strb r10, [r3]\n"

// The outputs y of a row, from the ring at x and the weights at w. An asm statement cannot take all
// registers, so r7 is kept in q.
#define EMX_PLANE_OUTPUTS(macs)                                                                    \
    register emx_plane_3x3_s8_t *const q_ __asm__("r0") = q;                                       \
    register const int8_t *x_ __asm__("r1") = x;                                                   \
    register const int8_t *w_ __asm__("r2") = w;                                                   \
    register int8_t *y_ __asm__("r3") = y;                                                         \
    __asm__ volatile("str r7, [r0, #24]\n\t"                                                       \
                     "ldmia r2, {r4-r9}\n\t"                                                       \
                     "ldrd r2, r12, [r0, #12]\n\t"                                                 \
                     "cmp r3, r12\n\t"                                                             \
                     "beq 2f\n"                                                                    \
                     "1:\n\t"                                                                      \
                     "ldr r11, [r0]\n\t" macs "ldrd r12, lr, [r0, #4]\n\t"                         \
                     "smmla r10, r10, r12, lr\n\t"                                                 \
                     "smmla r11, r11, r12, lr\n\t"                                                 \
                     "ldr r12, [r0, #16]\n\t"                                                      \
                     "ssat r10, #8, r10, asr #9\n\t"                                               \
                     "ssat r11, #8, r11, asr #9\n\t"                                               \
                     "strb r10, [r3]\n\t"                                                          \
                     "strb r11, [r3, r2]\n\t"                                                      \
                     "add r3, r3, r2, lsl #1\n\t"                                                  \
                     "cmp r3, r12\n\t"                                                             \
                     "bne 1b\n"                                                                    \
                     "2:\n\t"                                                                      \
                     "ldr r12, [r0, #20]\n\t"                                                      \
                     "cmp r12, #0\n\t"                                                             \
                     "beq 3f\n\t" EMX_PLANE_LAST "3:\n\t"                                          \
                     "ldr r7, [r0, #24]"                                                           \
                     : "+r"(x_), "+r"(w_), "+r"(y_)                                                \
                     : "r"(q_)                                                                     \
                     : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

EMX_SHARED void emx_plane_outputs_1_s8(emx_plane_3x3_s8_t *q, const int8_t *x, const int8_t *w,
                                       int8_t *y)
{
    EMX_PLANE_OUTPUTS(EMX_PLANE_STRIDE_1);
}

EMX_SHARED void emx_plane_outputs_2_s8(emx_plane_3x3_s8_t *q, const int8_t *x, const int8_t *w,
                                       int8_t *y)
{
    EMX_PLANE_OUTPUTS(EMX_PLANE_STRIDE_2);
}

// A row of 3x3 taps.
EMX_INLINE void emx_plane_row_3x3_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t first,
                                     const emx_channel_s8_t *c, int8_t *y)
{
    const int8_t *x = emx_plane_ring_s8(p, scratch);
    const int8_t *const w = x - 8 * (first ? 2 + first : 5);
    if (emx_plane_simple_s8(p)) {
        emx_plane_3x3_s8_t *const q = (emx_plane_3x3_s8_t *)(void *)scratch;
        q->end = y + p->out_w / 2 * 2 * p->y_col;
        if (p->stride_w == 1) {
            emx_plane_outputs_1_s8(q, x, w, y);
        } else {
            emx_plane_outputs_2_s8(q, x, w, y);
        }
        return;
    }
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        int32_t acc = p->folded ? emx_shift_left_s32(c->b, c->k) : c->b;
        const bool odd = p->stride_w == 1 && ox % 2;
        EMX_UNROLL
        for (int s = 0; s < 3; s++) {
            const uint32_t u = emx_plane_load_s8(w + 8 * s), v = emx_plane_load_s8(w + 8 * s + 4);
            const uint32_t i = emx_plane_load_s8(x + 4 * s), j = emx_plane_load_s8(x + 12 + 4 * s);
            acc = odd ? emx_mac_both_s16(emx_mac_high_low_s16(acc, i, u), j, v)
                      : emx_mac_low_high_s16(emx_mac_both_s16(acc, i, u), j, v);
        }
        y[ox * p->y_col] = emx_plane_result_s8(p, c, acc);
        x += p->stride_w == 2 || odd ? 12 : 0;
    }
}

EMX_INLINE void emx_plane_row_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t first,
                                 const emx_channel_s8_t *c, int8_t *y, int32_t rows)
{
    (void)rows;
    if (emx_plane_3x3_s8(p)) {
        emx_plane_row_3x3_s8(p, scratch, first, c, y);
    } else {
        const int8_t *const ring = emx_plane_ring_s8(p, scratch);
        const int32_t b = p->folded ? emx_shift_left_s32(c->b, c->k) : c->b;
        for (int32_t ox = 0; ox < p->out_w; ox++) {
            const int32_t acc = emx_plane_sum_s8(p, scratch, ring, first, ox * p->stride_w, b);
            y[ox * p->y_col] = emx_plane_result_s8(p, c, acc);
        }
    }
}

#endif
