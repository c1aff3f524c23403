// SPDX-License-Identifier: Apache-2.0
// Micro-kernels of int8 layers for Helium: sixteen products in one instruction. Weights: for each
// sixteen inputs, a step, four vectors, one for each output.
#ifndef EMX_ARCH_MVE_S8_H
#define EMX_ARCH_MVE_S8_H
#include <arm_mve.h>
#include <emx/emx.h>
#include <emx/quant.h>

#define EMX_DEPTH 16
#define EMX_STAGED 2

#define EMX_HAVE_copy_s8
EMX_INLINE void emx_copy_s8(int8_t *to, const int8_t *x, int32_t n)
{
    __asm__ volatile("wlstp.8 lr, %2, 2f\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%1], #16\n\tvstrb.8 q0, [%0], #16\n\tletp lr, 1b\n"
                     "2:"
                     : "+r"(to), "+r"(x)
                     : "r"(n)
                     : "lr", "d0", "d1", "memory");
}

#define EMX_HAVE_gather_s8
EMX_INLINE void emx_gather_s8(int8_t *to, const int8_t *x, const uint16_t *offsets, int32_t n)
{
    __asm__ volatile("wlstp.16 lr, %3, 2f\n"
                     "1:\n\t"
                     "vldrh.u16 q1, [%1], #16\n\tvldrb.u16 q0, [%2, q1]\n\t"
                     "vstrb.16 q0, [%0], #8\n\tletp lr, 1b\n"
                     "2:"
                     : "+l"(to), "+r"(offsets) // narrowing stores take lower registers only
                     : "r"(x), "r"(n)
                     : "lr", "d0", "d1", "d2", "d3", "memory");
}

#define EMX_HAVE_look_up_s8
EMX_INLINE void emx_look_up_s8(int8_t *y, const int8_t *x, const int8_t *table, int32_t n)
{
    __asm__ volatile("vmov.i8 q2, #128\n\twlstp.8 lr, %3, 2f\n"
                     "1:\n\t"
                     "vldrb.8 q1, [%1], #16\n\tveor q1, q1, q2\n\t"
                     "vldrb.u8 q0, [%2, q1]\n\tvstrb.8 q0, [%0], #16\n\tletp lr, 1b\n"
                     "2:"
                     : "+r"(y), "+r"(x)
                     : "r"(table), "r"(n)
                     : "lr", "d0", "d1", "d2", "d3", "d4", "d5", "memory");
}

// Sixteen inputs of two pixels by four outputs: 128 products. Sums: r0, r2, r4, r6 of the first
// pixel, r8, r10, r12, lr of the second; this instruction wants even registers. r9 and r11 walk
// along the pixels, r3 along the weights. `mac` is vmladav to begin sums, vmladava to go on.
#define EMX_STEP_2(mac)                                                                            \
    "vldrb.8 q0, [r9], #16\n\tvldrb.8 q2, [r3], #16\n\t" mac ".s8 r0, q0, q2\n\t"                  \
    "vldrb.8 q1, [r11], #16\n\t" mac ".s8 r8, q1, q2\n\t"                                          \
    "vldrb.8 q3, [r3], #16\n\t" mac ".s8 r2, q0, q3\n\t"                                           \
    "vldrb.8 q2, [r3], #16\n\t" mac ".s8 r10, q1, q3\n\t"                                          \
    "vldrb.8 q3, [r3], #16\n\t" mac ".s8 r4, q0, q2\n\t" mac ".s8 r12, q1, q2\n\t" mac             \
    ".s8 r6, q0, q3\n\t" mac ".s8 lr, q1, q3\n\t"
#define EMX_STEP_1(mac)                                                                            \
    "vldrb.8 q0, [r9], #16\n\tvldrb.8 q1, [r3], #16\n\t" mac ".s8 r0, q0, q1\n\t"                  \
    "vldrb.8 q2, [r3], #16\n\t" mac ".s8 r2, q0, q2\n\t"                                           \
    "vldrb.8 q1, [r3], #16\n\t" mac ".s8 r4, q0, q1\n\t"                                           \
    "vldrb.8 q2, [r3], #16\n\t" mac ".s8 r6, q0, q2\n\t"

#define EMX_FIRST_2 EMX_STEP_2("vmladav")
#define EMX_NEXT_2 EMX_STEP_2("vmladava")
#define EMX_FIRST_1 EMX_STEP_1("vmladav")
#define EMX_NEXT_1 EMX_STEP_1("vmladava")

// The steps after the first, two in a loop, which is entered in the middle for an odd number.
#if EMX_SMALL
#define EMX_OTHERS_2                                                                               \
    "vmov r1, s21\n\tcbz r1, 4f\n"                                                                 \
    "2:\n\t" EMX_NEXT_2 "subs r1, r1, #1\n\tbne 2b\n"
#else
#define EMX_OTHERS_2                                                                               \
    "vmov r1, s21\n\tlsrs r1, r1, #1\n\tbcs 3f\n\tsubs r1, r1, #1\n\tblt 4f\n"                     \
    "2:\n\t" EMX_NEXT_2 "\n3:\n\t" EMX_NEXT_2 "subs r1, r1, #1\n\tbge 2b\n"
#endif

// vqshrnb.s32 q0, q0, #9; vqshrnt.s32 q0, q1, #9. As numbers, for GNU as 2.40 takes vqrshrn for
// them, which rounds.
#define EMX_NARROW_B ".inst.w 0xee970f40\n\t"
#define EMX_NARROW_T ".inst.w 0xee971f42\n\t"

// Sums in lanes. Parameters at s18: q2 and q3 become multipliers and what scaled sums start from.
#define EMX_LANES_1 "vmov q0[2], q0[0], r0, r4\n\tvmov q0[3], q0[1], r2, r6\n\t"
#define EMX_LANES_2 "vmov q1[2], q1[0], r8, r12\n\tvmov q1[3], q1[1], r10, lr\n\t"
#define EMX_PARAMS "vmov r0, s18\n\tvldrw.u32 q2, [r0], #16\n\t"
#define EMX_SCALES "vld20.32 {q2, q3}, [r0]\n\tvld21.32 {q2, q3}, [r0]!\n\tvmov s18, r0\n\t"

#define EMX_READ_1 EMX_LANES_1 EMX_PARAMS "vadd.i32 q0, q0, q2\n\t" EMX_SCALES
#define EMX_READ_2                                                                                 \
    EMX_LANES_1 EMX_LANES_2 EMX_PARAMS "vadd.i32 q0, q0, q2\n\tvadd.i32 q1, q1, q2\n\t" EMX_SCALES

// The same of short parameters, whose start is s23.
#define EMX_SHORT_1(at, a) "ldr r1, [r9, #" #at "]\n\tadd " a ", " a ", r1, asr #8\n\t"
#define EMX_SHORT_2(at, a, b) EMX_SHORT_1(at, a) "add " b ", " b ", r1, asr #8\n\t"
#define EMX_SHORT_SCALES                                                                           \
    "vldrw.u32 q2, [r9], #28\n\tvmov r1, s23\n\tvdup.32 q3, r1\n\tvmov s18, r9\n\t"
#define EMX_READ_SHORT_1                                                                           \
    "vmov r9, s18\n\t" EMX_SHORT_1(15, "r0") EMX_SHORT_1(18, "r2") EMX_SHORT_1(21, "r4")           \
        EMX_SHORT_1(24, "r6") EMX_LANES_1 EMX_SHORT_SCALES
#define EMX_READ_SHORT_2                                                                           \
    "vmov r9, s18\n\t" EMX_SHORT_2(15, "r0", "r8") EMX_SHORT_2(18, "r2", "r10")                    \
        EMX_SHORT_2(21, "r4", "r12") EMX_SHORT_2(24, "r6", "lr")                                   \
            EMX_LANES_1 EMX_LANES_2 EMX_SHORT_SCALES

// All blocks. What waits in s16 to s23 while the sums take all registers: r7 among it, as compilers
// do not like to hear that it changes.
#define EMX_BLOCKS_2(read)                                                                         \
    "vmov s16, s17, r9, r11\n\tvmov s18, r0\n\tvmov s20, s21, r4, r2\n\t"                          \
    "vmov s22, s23, r7, r8\n\tmov r7, r6\n"                                                        \
    "1:\n\t"                                                                                       \
    "vmov r9, r11, s16, s17\n\t" EMX_FIRST_2 EMX_OTHERS_2 "4:\n\t" read                            \
    "vshl.s32 q0, q0, q2\n\tvshl.s32 q1, q1, q2\n\t"                                               \
    "vmulh.s32 q0, q0, q2\n\tvmulh.s32 q1, q1, q2\n\tvmov r2, s20\n\t"                             \
    "vadd.i32 q0, q0, q3\n\tvadd.i32 q1, q1, q3\n\t" EMX_NARROW_B EMX_NARROW_T                     \
    "vqmovnb.s16 q0, q0\n\t"                                                                       \
    "vstrb.32 q0, [r5], #4\n\tvshr.u32 q0, q0, #16\n\tvstrb.32 q0, [r7], #4\n\t"                   \
    "cmp r5, r2\n\tbne.w 1b\n\t"                                                                   \
    "vmov r7, s22"

// The same of one pixel.
#define EMX_BLOCKS_1(read)                                                                         \
    "vmov s16, s17, r9, r2\n\tvmov s18, r0\n\tvmov s20, r4\n\tvmov s23, r8\n"                      \
    "1:\n\t"                                                                                       \
    "vmov r9, r10, s16, s17\n\t" EMX_FIRST_1 "wls lr, r10, 3f\n"                                   \
    "2:\n\t" EMX_NEXT_1 "le lr, 2b\n"                                                              \
    "3:\n\t" read                                                                                  \
    "vshl.s32 q0, q0, q2\n\tvmulh.s32 q0, q0, q2\n\tvadd.i32 q0, q0, q3\n\t" EMX_NARROW_B          \
    "vqmovnb.s16 q0, q0\n\t"                                                                       \
    "vmov r2, s20\n\tvstrb.32 q0, [r5], #4\n\tcmp r5, r2\n\tbne 1b"

// What EMX_BLOCKS_2 and EMX_BLOCKS_1 begin with: r0, r2 to r6, r8, r9, r11.
typedef struct {
    const int32_t *q;
    int32_t others; // steps after the first
    const int8_t *w, *end;
    int8_t *y, *second;
    int32_t start;
    const int8_t *x, *x_second;
} emx_blocks_start_s8_t;

// Runs EMX_BLOCKS_2 or EMX_BLOCKS_1.
#define EMX_RUN_BLOCKS(code, p, x, w, q, y)                                                        \
    do {                                                                                           \
        const emx_blocks_start_s8_t start = {                                                      \
            q, (p)->depth / 16 - 1, w, y + EMX_BLOCK * (p)->blocks, y, y + (p)->pitch, (p)->start, \
            x, x + (p)->depth};                                                                    \
        register const emx_blocks_start_s8_t *r0 __asm__("r0") = &start;                           \
        __asm__ volatile("ldmia r0, {r0, r2-r6, r8, r9, r11}\n\t" code                             \
                         : "+r"(r0)                                                                \
                         :                                                                         \
                         : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12",    \
                           "lr", "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9",       \
                           "d10", "d11", "cc", "memory");                                          \
    } while (0)

#define EMX_HAVE_blocks_2_s8
EMX_SHARED void emx_blocks_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_READ_2), p, pair, w, q, y);
}
#define emx_blocks_2_twice_s8 emx_blocks_2_s8

#define EMX_HAVE_short_2_s8
EMX_SHARED void emx_short_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_READ_SHORT_2), p, pair, w, q, y);
}
#define emx_short_2_twice_s8 emx_short_2_s8

#define EMX_HAVE_blocks_1_s8
EMX_SHARED void emx_blocks_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_READ_1), p, x, w, q, y);
}
#define emx_blocks_1_twice_s8 emx_blocks_1_s8

#define EMX_HAVE_short_1_s8
EMX_SHARED void emx_short_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_READ_SHORT_1), p, x, w, q, y);
}
#define emx_short_1_twice_s8 emx_short_1_s8

// The sums of one block, for those that are scaled in 64 bits.
#define EMX_HAVE_dot_1x4_s8
EMX_INLINE void emx_dot_1x4_s8(int32_t acc[4], const int32_t b[4], const int8_t *x, const int8_t *w,
                               int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = b[o];
    }
    for (int32_t k = 0; k < depth; k += 16) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] = vmladavaq_s8(acc[o], vldrbq_s8(x + k), vldrbq_s8(w + 4 * k + 16 * o));
        }
    }
}

#define EMX_HAVE_dot_2x4_s8
EMX_SHARED void emx_dot_2x4_s8(int32_t acc[8], const int32_t b[4], const int8_t *pair,
                               const int8_t *w, int32_t depth)
{
    register int32_t *r5 __asm__("r5") = acc;
    register const int32_t *r1 __asm__("r1") = b;
    register const int8_t *r3 __asm__("r3") = w;
    register const int8_t *r9 __asm__("r9") = pair;
    register const int8_t *r11 __asm__("r11") = pair + depth;
    __asm__ volatile("ldrd r0, r2, [r1]\n\tldrd r4, r6, [r1, #8]\n\t"
                     "mov r8, r0\n\tmov r10, r2\n\tmov r12, r4\n\tmov lr, r6\n\t"
                     "mov r1, r11\n\tb 2f\n" // where the first pixel ends
                     "1:\n\t" EMX_NEXT_2 "2:\n\tcmp r9, r1\n\tbne 1b\n\t"
                     "strd r0, r2, [r5]\n\tstrd r4, r6, [r5, #8]\n\t"
                     "strd r8, r10, [r5, #16]\n\tstrd r12, lr, [r5, #24]"
                     : "+r"(r1), "+r"(r3), "+r"(r9), "+r"(r11)
                     : "r"(r5)
                     : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "d0", "d1", "d2", "d3",
                       "d4", "d5", "d6", "d7", "cc", "memory");
}

#define EMX_HAVE_scale_4_s8
EMX_INLINE void emx_scale_4_s8(int8_t *y, const int32_t acc[4], const int32_t *q,
                               const emx_bounds_s8_t *in, int32_t n)
{
    const int32x4x2_t scale = vld2q_s32(q + EMX_BLOCK_M);
    int32x4_t v = vmulhq_s32(vshlq_s32(vldrwq_s32(acc), scale.val[0]), scale.val[0]);
    v = vshrq_n_s32(vaddq_s32(v, scale.val[1]), EMX_SCALE_SHIFT);
    v = vmaxq_s32(vminq_s32(v, vdupq_n_s32(in->hi)), vdupq_n_s32(in->lo));
    vstrbq_p_s32(y, v, vctp32q((uint32_t)n));
}

#define EMX_HAVE_whole_of_taps_s8
EMX_INLINE bool emx_whole_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x,
                                     const int8_t *w, const int32_t *q, int8_t *y)
{
    const int32_t whole = p->channels - p->tail;
    int32_t c = 0;
    if (p->wide) {
        return false;
    }
    for (; p->sixteen && c + 16 <= whole; c += 16) {
        const int32_t *const own = q + c / 4 * EMX_BLOCK_PARAMS;
        emx_sixteen_of_taps_s8(p, x, c, w + c * p->taps, own, y);
    }
    for (; c < whole; c += 4) {
        int32_t acc[4];
        const int32_t *const own = q + c / 4 * EMX_BLOCK_PARAMS;
        emx_mac_taps_s8(acc, own + EMX_BLOCK_BIAS, x, c, w + c * p->taps, p->taps, 4);
        emx_scale_4_s8(y + c, acc, own, &p->in, 4);
    }
    return true;
}

#endif
