// SPDX-License-Identifier: Apache-2.0
// 3x3 depthwise layers with the DSP instructions: the ring of arch/dsp_plane_s8.h, but one copy of
// code for all layers of a model, the inner loops in assembly.
//
// The words (w0, w1) and (w1, w2) of each row of weights stay in registers; where a word does not
// fit, a product takes a half of it. Weights are shifted to the left by k, which requantisation
// saves. As the rows of the ring take turns, rows of weights lie in scratch as 0, 1, 2, 0, 1: the
// row of the first slot is the first of three.
#ifndef EMX_ARCH_DSP_3X3_S8_H
#define EMX_ARCH_DSP_3X3_S8_H
#include <emx/plane_s8.h>

#define EMX_HAVE_plane_quick_s8

// What the assembly is told.
typedef struct {
    int32_t b, m, start, y_col; // what a sum starts from, and what makes a result of it
    const int8_t *end;          // of a row of y, but for an odd output
    int32_t odd;                // whether there is one
    int32_t saved;              // r7: an asm statement cannot take all registers
    int32_t x_col, pairs;       // of pixels of x
    int32_t first, second;      // where in a row of the ring the first two go
    int32_t last;               // whether there is an odd pixel
} emx_plane_state_s8_t;

EMX_STATIC_ASSERT(sizeof(emx_plane_state_s8_t) == 48, "the assembly counts bytes");

#define EMX_3X3_COPY                                                                               \
    "ldrsb r0, [r2]\n\tldrsb r1, [r2, r3]\n\tadd r2, r2, r3, lsl #1\n\t"                           \
    "strh r0, [r4], #12\n\tstrh r1, [r5], #12\n\t"

// A row of pixels x into the slot at `row`, two at a time.
EMX_SHARED void emx_3x3_stage_s8(const emx_plane_state_s8_t *q, int8_t *row, const int8_t *x)
{
    register const emx_plane_state_s8_t *q_ __asm__("r0") = q;
    register int8_t *row_ __asm__("r1") = row;
    register const int8_t *x_ __asm__("r2") = x;
    __asm__ volatile("ldrd r4, r5, [r0, #36]\n\t"
                     "ldrd r3, r6, [r0, #28]\n\t"
                     "ldr r12, [r0, #44]\n\t"
                     "add r4, r4, r1\n\t"
                     "add r5, r5, r1\n\t"
                     "lsrs r6, r6, #1\n\t"
                     "bcs 2f\n\t"
                     "subs r6, r6, #1\n\t"
                     "blt 3f\n"
                     "1:\n\t" EMX_3X3_COPY "\n"
                     "2:\n\t" EMX_3X3_COPY "subs r6, r6, #1\n\t"
                     "bge 1b\n"
                     "3:\n\t"
                     "cmp r12, #0\n\t"
                     "beq 4f\n\t"
                     "ldrsb r0, [r2]\n\t"
                     "strh r0, [r4]\n"
                     "4:"
                     : "+r"(q_), "+r"(row_), "+r"(x_)
                     :
                     : "r3", "r4", "r5", "r6", "r12", "cc", "memory");
}

#define EMX_3X3_LOAD(move) "ldrd r12, lr, [r1]" move "\n\t"
#define EMX_3X3_MAC(op, acc, word, w) #op " " #acc ", " #word ", " #w ", " #acc "\n\t"

// The first output in r10, from words (x0, x1) of the three slots, then (x2, x3); the weights are
// r4, r6, r8 (w0, w1) and r5, r7, r9 (w1, w2) of the slots. In r11 the second, which starts one or
// two columns later. Both begin as r11.
#define EMX_3X3_STRIDE_1                                                                           \
    EMX_3X3_LOAD(", #8")                                                                           \
    "smlad r10, r12, r4, r11\n\t" EMX_3X3_MAC(smlatb, r11, r12, r4)                                \
        EMX_3X3_MAC(smlad, r10, lr, r6) EMX_3X3_MAC(smlatb, r11, lr, r6) EMX_3X3_LOAD(", #8")      \
            EMX_3X3_MAC(smlad, r10, r12, r8) EMX_3X3_MAC(smlatb, r11, r12, r8)                     \
                EMX_3X3_MAC(smlabt, r10, lr, r5) EMX_3X3_MAC(smlad, r11, lr, r5)                   \
                    EMX_3X3_LOAD(", #-4") EMX_3X3_MAC(smlabt, r10, r12, r7)                        \
                        EMX_3X3_MAC(smlad, r11, r12, r7) EMX_3X3_MAC(smlabt, r10, lr, r9)          \
                            EMX_3X3_MAC(smlad, r11, lr, r9)

#define EMX_3X3_STRIDE_2                                                                           \
    EMX_3X3_LOAD(", #8")                                                                           \
    "smlad r10, r12, r4, r11\n\t" EMX_3X3_MAC(smlad, r10, lr, r6) EMX_3X3_LOAD(", #8")             \
        EMX_3X3_MAC(smlad, r10, r12, r8) EMX_3X3_MAC(smlabt, r10, lr, r5)                          \
            EMX_3X3_MAC(smlad, r11, lr, r4) EMX_3X3_LOAD(", #8") EMX_3X3_MAC(smlabt, r10, r12, r7) \
                EMX_3X3_MAC(smlad, r11, r12, r6) EMX_3X3_MAC(smlabt, r10, lr, r9)                  \
                    EMX_3X3_MAC(smlad, r11, lr, r8) EMX_3X3_LOAD("")                               \
                        EMX_3X3_MAC(smlabt, r11, r12, r5)                                          \
                            EMX_3X3_MAC(smlabt, r11, lr, r7) "ldr r12, [r1, #8]\n\t" EMX_3X3_MAC(  \
                                smlabt, r11, r12, r9)

// What is left of an odd number of outputs.
#define EMX_3X3_LAST                                                                               \
    "ldr r10, [r0]\n\t" EMX_3X3_LOAD(", #8") EMX_3X3_MAC(smlad, r10, r12, r4)                      \
        EMX_3X3_MAC(smlad, r10, lr, r6) EMX_3X3_LOAD(", #8") EMX_3X3_MAC(smlad, r10, r12, r8)      \
            EMX_3X3_MAC(smlabt, r10, lr, r5) EMX_3X3_LOAD("") EMX_3X3_MAC(smlabt, r10, r12, r7)    \
                EMX_3X3_MAC(                                                                       \
                    smlabt, r10, lr,                                                               \
                    r9) "ldrd r12, lr, [r0, #4]\n\t"                                               \
                        "smmla r10, r10, r12, lr\n\tssat r10, #8, r10, asr #9\n\tstrb r10, [r3]\n"

// The outputs y of a row, from the ring at x and the three rows of weights at w.
#define EMX_3X3_ROW(macs)                                                                          \
    register emx_plane_state_s8_t *q_ __asm__("r0") = q;                                           \
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
                     "beq 3f\n\t" EMX_3X3_LAST "3:\n\t"                                            \
                     "ldr r7, [r0, #24]"                                                           \
                     : "+r"(q_), "+r"(x_), "+r"(w_), "+r"(y_)                                      \
                     :                                                                             \
                     : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

EMX_SHARED void emx_3x3_row_1_s8(emx_plane_state_s8_t *q, const int8_t *x, const int8_t *w,
                                 int8_t *y)
{
    EMX_3X3_ROW(EMX_3X3_STRIDE_1);
}

EMX_SHARED void emx_3x3_row_2_s8(emx_plane_state_s8_t *q, const int8_t *x, const int8_t *w,
                                 int8_t *y)
{
    EMX_3X3_ROW(EMX_3X3_STRIDE_2);
}

// The weights of a channel, before the ring, shifted by k.
EMX_INLINE void emx_3x3_weights_s8(const int8_t *w, int32_t k, int8_t *to)
{
    EMX_UNROLL
    for (int i = 0; i < 3; i++) {
        const int32_t w0 = emx_shift_left_s32(w[12 * i], k);
        const int32_t w1 = emx_shift_left_s32(w[12 * i + 4], k);
        const int32_t w2 = emx_shift_left_s32(w[12 * i + 8], k);
        EMX_UNROLL
        for (int row = i; row < 5; row += 3) {
            emx_plane_store_s8(to + 8 * row, emx_both_s16(w0, w1));
            emx_plane_store_s8(to + 8 * row + 4, emx_both_s16(w1, w2));
        }
    }
}

// Before all channels.
EMX_INLINE void emx_plane_start_quick_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q)
{
    const int32_t left = p->pad_left;
    const emx_plane_state_s8_t start = {
        0,
        0,
        0,
        p->y_col,
        NULL,
        p->out_w % 2,
        0,
        p->x_col,
        p->used / 2,
        left / 2 * 12 + left % 2 * 2,
        (left + 1) / 2 * 12 + (left + 1) % 2 * 2,
        p->used % 2,
    };
    *q = start;
}

// A row beyond the image.
EMX_SHARED void emx_3x3_blank_s8(int8_t *row, int32_t x_zero, int32_t pairs)
{
    const uint32_t v = emx_both_s16(x_zero, x_zero);
    for (; pairs > 0; pairs--) {
        emx_plane_store_s8(row, v);
        row += 12;
    }
}

EMX_SHARED void emx_plane_quick_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q,
                                   const emx_channel_s8_t *c, const int8_t *x, int8_t *scratch,
                                   int8_t *y)
{
    int8_t *const ring = scratch + 4 * EMX_3X3_WORDS;
    int32_t iy = -p->pad_top, slot = 0; // the next row of x, and where it goes, in bytes
    const int32_t k = emx_left_of(c->m);
    q->b = emx_shift_left_s32(c->b, k);
    q->m = c->m;
    q->start = c->start;
    emx_3x3_weights_s8(c->w, k, ring - 40);
    x += iy * p->x_row;
    for (int32_t left = p->out_h, more = 3; left > 0; left--, more = p->stride_h) {
        for (; more > 0; more--) {
            if (iy >= 0 && iy < p->in_h) {
                emx_3x3_stage_s8(q, ring + slot, x);
            } else {
                emx_3x3_blank_s8(ring + slot, p->x_zero, emx_plane_pairs_s8(p));
            }
            iy++;
            x += p->x_row;
            slot = slot < 8 ? slot + 4 : 0;
        }
        // The row that goes next is the first of those in the ring.
        const int8_t *const w = ring - (slot ? 16 + 2 * slot : 40);
        q->end = y + p->out_w / 2 * 2 * p->y_col;
        if (p->stride_w == 1) {
            emx_3x3_row_1_s8(q, ring, w, y);
        } else {
            emx_3x3_row_2_s8(q, ring, w, y);
        }
        y += p->y_row;
    }
}

#endif
