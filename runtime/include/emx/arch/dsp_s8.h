// SPDX-License-Identifier: Apache-2.0
// Micro-kernels for the DSP instructions of Armv7E-M and Armv8-M: two products in one instruction.
//
// Four inputs k..k+3 are a step. A pair holds of each step four words of two halfwords: inputs k
// and k+2 of the first pixel, of the second, k+1 and k+3 of the first, of the second. Weights lie
// in the same order: a word has inputs k and k+2 of outputs 0 and 1, byte by byte; the next of
// outputs 2 and 3; then likewise for k+1 and k+3.
//
// If `twice`, the second of two outputs is not read from its bytes. Halfwords hold 256 * w1 + w0
// then, so that one product sums both outputs, 256 * acc1 + acc0, and needs no unpacking. acc0
// comes from the lower bytes; acc1 follows exactly, as it has less than 24 bits.
#ifndef EMX_ARCH_DSP_S8_H
#define EMX_ARCH_DSP_S8_H
#include <emx/emx.h>
#include <emx/quant.h>

#define EMX_DEPTH 4
#define EMX_STAGED 4

// How many steps a loop does at once.
#if EMX_SMALL
#define EMX_STEPS 1
#define EMX_REPEAT ".rept 1\n\t"
#else
#define EMX_STEPS 4
#define EMX_REPEAT ".rept 4\n\t"
#endif

#define EMX_HAVE_weight_at_s8
EMX_INLINE int32_t emx_weight_at_s8(int32_t k, int32_t o)
{
    return k / 4 * 16 + k % 2 * 8 + o / 2 * 4 + k / 2 % 2 * 2 + o % 2;
}

#define EMX_HAVE_copy_s8
EMX_INLINE void emx_copy_s8(int8_t *to, const int8_t *x, int32_t n)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        memcpy(to + i, x + i, 4);
    }
    for (; i < n; i++) {
        to[i] = x[i];
    }
}

#define EMX_HAVE_stage_2_s8
EMX_INLINE void emx_stage_2_s8(int8_t *pair, int32_t depth, int32_t at, const int8_t *x0,
                               const int8_t *x1, int32_t n)
{
    int8_t *to = pair + 4 * at;
    (void)depth;
    EMX_UNROLL_2
    for (int32_t k = 0; k < n; k += 4) {
        __asm__ volatile("ldr r0, [%1], #4\n\t"
                         "ldr r1, [%2], #4\n\t"
                         "sxtb16 r2, r0, ror #8\n\t"
                         "sxtb16 r3, r1, ror #8\n\t"
                         "sxtb16 r0, r0\n\t"
                         "sxtb16 r1, r1\n\t"
                         "stmia %0!, {r0-r3}"
                         : "+r"(to), "+r"(x0), "+r"(x1)
                         :
                         : "r0", "r1", "r2", "r3", "memory");
    }
}

// Two words of a pair (r0, r1), two of weights (r2, r3): 16 products.
// Sums: r4-r7 of the first pixel, r8-r11 of the second. r12 walks along the pair, lr the weights.
#define EMX_HALF_2_TWICE                                                                           \
    "ldrd r0, r1, [r12], #8\n\tldrd r2, r3, [lr], #8\n\t"                                          \
    "smlad r5, r2, r0, r5\n\tsmlad r9, r2, r1, r9\n\tsxtb16 r2, r2\n\t"                            \
    "smlad r7, r3, r0, r7\n\tsmlad r11, r3, r1, r11\n\tsxtb16 r3, r3\n\t"                          \
    "smlad r4, r2, r0, r4\n\tsmlad r8, r2, r1, r8\n\t"                                             \
    "smlad r6, r3, r0, r6\n\tsmlad r10, r3, r1, r10\n\t"
#define EMX_HALF_2                                                                                 \
    "ldrd r0, r1, [r12], #8\n\t"                                                                   \
    "ldr r2, [lr], #4\n\tsxtb16 r3, r2\n\tsxtb16 r2, r2, ror #8\n\t"                               \
    "smlad r4, r3, r0, r4\n\tsmlad r8, r3, r1, r8\n\t"                                             \
    "smlad r5, r2, r0, r5\n\tsmlad r9, r2, r1, r9\n\t"                                             \
    "ldr r2, [lr], #4\n\tsxtb16 r3, r2\n\tsxtb16 r2, r2, ror #8\n\t"                               \
    "smlad r6, r3, r0, r6\n\tsmlad r10, r3, r1, r10\n\t"                                           \
    "smlad r7, r2, r0, r7\n\tsmlad r11, r2, r1, r11\n\t"

// acc1 << 8 of the sums of two outputs.
#define EMX_APART_2 "sub r5, r5, r4\n\tsub r7, r7, r6\n\tsub r9, r9, r8\n\tsub r11, r11, r10\n\t"

// How a block's parameters are read: its biases, to r4 to r7; later, of each output, the multiplier
// and the start, to r0 and r1. lr walks along them. Short ones lie before it then; s5 is the start.
#define EMX_BIASES "ldmia lr!, {r4-r7}\n\t"
#define EMX_SCALE(at) "ldrd r0, r1, [lr], #8\n\t"
#define EMX_SHORT_BIASES                                                                           \
    "ldr r4, [lr, #15]\n\tldr r5, [lr, #18]\n\tldr r6, [lr, #21]\n\tldr r7, [lr, #24]\n\t"         \
    "asr r4, r4, #8\n\tasr r5, r5, #8\n\tasr r6, r6, #8\n\tasr r7, r7, #8\n\tadd lr, lr, #28\n\t"
#define EMX_SHORT_BIASES_TWICE                                                                     \
    EMX_SHORT_BIASES "add r5, r4, r5, lsl #8\n\tadd r7, r6, r7, lsl #8\n\t"
#define EMX_SHORT_SCALE(at) "ldr r0, [lr, #" #at "]\n\tvmov r1, s5\n\t"

// The results of one output from the sums a and b of two pixels; r12 and r2 walk along y. Sums of
// EMX_APART_2 are shifted to the left already, by 8.
#define EMX_LEFT_2(scale, a, b)                                                                    \
    scale "lsl " a ", " a ", r0\n\tlsl " b ", " b ", r0\n\t" EMX_RESULT_2(a, b)
#define EMX_BACK_2(scale, a, b)                                                                    \
    scale "rsb r3, r0, #8\n\t"                                                                     \
          "asr " a ", " a ", r3\n\tasr " b ", " b ", r3\n\t" EMX_RESULT_2(a, b)
#define EMX_RESULT_2(a, b)                                                                         \
    "smmla " a ", " a ", r0, r1\n\tsmmla " b ", " b ", r0, r1\n\t"                                 \
    "ssat " a ", #8, " a ", asr #9\n\tssat " b ", #8, " b ", asr #9\n\t"                           \
    "strb " a ", [r12], #1\n\tstrb " b ", [r2], #1\n\t"

// All blocks. What does not fit the core registers waits in s0 to s8; r7 in s15, as compilers do
// not like to hear that it changes. Steps are an unrolled loop that is entered where as many are
// left as the last round does; the assembler takes addresses right from aligned places only.
#define EMX_BLOCKS_2(biases, scale, half, apart, odd)                                              \
    "vmov s15, r7\n\tvmov s5, r3\n\t"                                                              \
    ".balign 4\n\tadr.w r7, 2f + 1\n\tadd r7, r7, r5\n\tvmov s7, r7\n\t"                           \
    "add r4, r4, r12\n\tvmov s6, r4\n\tvmov s8, r6\n\t"                                            \
    "vmov s0, s1, lr, r12\n\tmov r12, r1\n\tmov lr, r0\n"                                          \
    "1:\n\t" biases "vmov s2, s3, r12, lr\n\tvmov s4, r2\n\t"                                      \
    "mov r8, r4\n\tmov r9, r5\n\tmov r10, r6\n\tmov r11, r7\n\t"                                   \
    "vmov lr, r12, s0, s1\n\tvmov r0, s7\n\tbx r0\n"                                               \
    "2:\n\t" EMX_REPEAT half half ".endr\n\t"                                                      \
    "vmov r0, s6\n\tcmp r12, r0\n\tbne.w 2b\n\t" apart                                             \
    "vmov s0, lr\n\tvmov r12, lr, s2, s3\n\tvmov r2, s4\n\t" EMX_LEFT_2(scale(-28), "r4", "r8")    \
        odd(scale(-24), "r5", "r9") EMX_LEFT_2(scale(-20), "r6", "r10")                            \
            odd(scale(-16), "r7", "r11") "vmov r0, s8\n\tcmp r12, r0\n\tbne.w 1b\n\t"              \
                                         "vmov r7, s15"

// What EMX_BLOCKS_2 and EMX_BLOCKS_1 begin with: r0 to r6, r12, lr.
typedef struct {
    const int32_t *q;
    int8_t *y, *second;
    int32_t start, x_bytes, left_out;
    const int8_t *end, *x, *w;
} emx_blocks_start_s8_t;

EMX_INLINE emx_blocks_start_s8_t emx_blocks_start_s8(const emx_blocks_s8_t *p, const int8_t *x,
                                                     const int8_t *w, const int32_t *q, int8_t *y,
                                                     int32_t x_bytes, int32_t step_bytes)
{
    const int32_t left_out = -(p->depth / 4) & (EMX_STEPS - 1);
    const int8_t *const end = y + EMX_BLOCK * p->blocks;
    const emx_blocks_start_s8_t start = {
        q, y, y + p->pitch, p->start, x_bytes * p->depth, left_out * step_bytes, end, x, w};
    return start;
}

// Runs EMX_BLOCKS_2 or EMX_BLOCKS_1 on an emx_blocks_start_s8_t.
#define EMX_RUN_BLOCKS(code, start)                                                                \
    do {                                                                                           \
        register const emx_blocks_start_s8_t *r0 __asm__("r0") = &(start);                         \
        __asm__ volatile("ldmia r0, {r0-r6, r12, lr}\n\t" code                                     \
                         : "+r"(r0)                                                                \
                         :                                                                         \
                         : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12",    \
                           "lr", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s15",      \
                           "cc", "memory");                                                        \
    } while (0)

#define EMX_HAVE_blocks_2_s8
EMX_SHARED void emx_blocks_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, pair, w, q, y, 4, 2 * 60);
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_BIASES, EMX_SCALE, EMX_HALF_2, "", EMX_LEFT_2), start);
}

EMX_SHARED void emx_blocks_2_twice_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                                      const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, pair, w, q, y, 4, 2 * 48);
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_BIASES, EMX_SCALE, EMX_HALF_2_TWICE, EMX_APART_2, EMX_BACK_2),
                   start);
}

#define EMX_HAVE_short_2_s8
EMX_SHARED void emx_short_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, pair, w, q, y, 4, 2 * 60);
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_SHORT_BIASES, EMX_SHORT_SCALE, EMX_HALF_2, "", EMX_LEFT_2),
                   start);
}

EMX_SHARED void emx_short_2_twice_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                                     const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, pair, w, q, y, 4, 2 * 48);
    EMX_RUN_BLOCKS(EMX_BLOCKS_2(EMX_SHORT_BIASES_TWICE, EMX_SHORT_SCALE, EMX_HALF_2_TWICE,
                                EMX_APART_2, EMX_BACK_2),
                   start);
}

// One pixel, whose bytes are read as they lie: a step is 16 or 32 products. Sums: r4-r7.
#define EMX_STEP_1_X                                                                               \
    "ldr r1, [r12], #4\n\tldmia lr!, {r2, r3, r8, r9}\n\t"                                         \
    "sxtb16 r0, r1\n\tsxtb16 r1, r1, ror #8\n\t"
#define EMX_PRODUCTS_1_TWICE(x, v01, v23)                                                          \
    "smlad r5, " v01 ", " x ", r5\n\tsxtb16 " v01 ", " v01 "\n\t"                                  \
    "smlad r7, " v23 ", " x ", r7\n\tsxtb16 " v23 ", " v23 "\n\t"                                  \
    "smlad r4, " v01 ", " x ", r4\n\tsmlad r6, " v23 ", " x ", r6\n\t"
#define EMX_PRODUCTS_1(x, v, a, b)                                                                 \
    "sxtb16 r10, " v "\n\tsxtb16 " v ", " v ", ror #8\n\t"                                         \
    "smlad " a ", r10, " x ", " a "\n\tsmlad " b ", " v ", " x ", " b "\n\t"
#define EMX_STEP_1_TWICE                                                                           \
    EMX_STEP_1_X EMX_PRODUCTS_1_TWICE("r0", "r2", "r3") EMX_PRODUCTS_1_TWICE("r1", "r8", "r9")
#define EMX_STEP_1                                                                                 \
    EMX_STEP_1_X EMX_PRODUCTS_1("r0", "r2", "r4", "r5") EMX_PRODUCTS_1("r0", "r3", "r6", "r7")     \
        EMX_PRODUCTS_1("r1", "r8", "r4", "r5") EMX_PRODUCTS_1("r1", "r9", "r6", "r7")
#define EMX_APART_1 "sub r5, r5, r4\n\tsub r7, r7, r6\n\t"
#define EMX_LEFT_1(scale, a) scale "lsl " a ", " a ", r0\n\t" EMX_RESULT_1(a)
#define EMX_BACK_1(scale, a) scale "rsb r3, r0, #8\n\tasr " a ", " a ", r3\n\t" EMX_RESULT_1(a)
#define EMX_RESULT_1(a)                                                                            \
    "smmla " a ", " a ", r0, r1\n\t"                                                               \
    "ssat " a ", #8, " a ", asr #9\n\tstrb " a ", [r12], #1\n\t"

// As EMX_BLOCKS_2, but where x ends is in r11.
#define EMX_BLOCKS_1(biases, scale, step, apart, odd)                                              \
    "vmov s15, r7\n\tvmov s5, r3\n\t"                                                              \
    ".balign 4\n\tadr.w r7, 2f + 1\n\tadd r7, r7, r5\n\tvmov s7, r7\n\t"                           \
    "add r11, r4, r12\n\tvmov s8, r6\n\t"                                                          \
    "vmov s0, s1, lr, r12\n\tmov r12, r1\n\tmov lr, r0\n"                                          \
    "1:\n\t" biases "vmov s2, s3, r12, lr\n\t"                                                     \
    "vmov lr, r12, s0, s1\n\tvmov r0, s7\n\tbx r0\n"                                               \
    "2:\n\t" EMX_REPEAT step ".endr\n\t"                                                           \
    "cmp r12, r11\n\tbne.w 2b\n\t" apart                                                           \
    "vmov s0, lr\n\tvmov r12, lr, s2, s3\n\t" EMX_LEFT_1(scale(-28), "r4") odd(scale(-24), "r5")   \
        EMX_LEFT_1(scale(-20), "r6")                                                               \
            odd(scale(-16), "r7") "vmov r0, s8\n\tcmp r12, r0\n\tbne.w 1b\n\t"                     \
                                  "vmov r7, s15"

#define EMX_HAVE_blocks_1_s8
EMX_SHARED void emx_blocks_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, x, w, q, y, 1, 20 * 4);
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_BIASES, EMX_SCALE, EMX_STEP_1, "", EMX_LEFT_1), start);
}

EMX_SHARED void emx_blocks_1_twice_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                                      const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, x, w, q, y, 1, 16 * 4);
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_BIASES, EMX_SCALE, EMX_STEP_1_TWICE, EMX_APART_1, EMX_BACK_1),
                   start);
}

#define EMX_HAVE_short_1_s8
EMX_SHARED void emx_short_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, x, w, q, y, 1, 20 * 4);
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_SHORT_BIASES, EMX_SHORT_SCALE, EMX_STEP_1, "", EMX_LEFT_1),
                   start);
}

EMX_SHARED void emx_short_1_twice_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                                     const int32_t *q, int8_t *y)
{
    const emx_blocks_start_s8_t start = emx_blocks_start_s8(p, x, w, q, y, 1, 16 * 4);
    EMX_RUN_BLOCKS(EMX_BLOCKS_1(EMX_SHORT_BIASES_TWICE, EMX_SHORT_SCALE, EMX_STEP_1_TWICE,
                                EMX_APART_1, EMX_BACK_1),
                   start);
}

// The sums of one block, for those that are not rounded by emx_blocks_2_s8; plain weights.
#define EMX_HAVE_dot_2x4_s8
EMX_SHARED void emx_dot_2x4_s8(int32_t acc[8], const int32_t b[4], const int8_t *pair,
                               const int8_t *w, int32_t depth)
{
    register int32_t *r0 __asm__("r0") = acc;
    register const int32_t *r1 __asm__("r1") = b;
    register const int8_t *end __asm__("r2") = pair + EMX_STAGED * depth;
    register const int8_t *r12 __asm__("r12") = pair;
    register const int8_t *lr __asm__("lr") = w;
    __asm__ volatile("vmov s0, s1, r0, r2\n\tvmov s15, r7\n\t"
                     "ldmia r1, {r4-r7}\n\t"
                     "mov r8, r4\n\tmov r9, r5\n\tmov r10, r6\n\tmov r11, r7\n\tb 2f\n"
                     "1:\n\t" EMX_HALF_2 EMX_HALF_2 "2:\n\t"
                     "vmov r0, s1\n\tcmp r12, r0\n\tbne 1b\n\t"
                     "vmov r0, s0\n\tstmia r0, {r4-r11}\n\tvmov r7, s15"
                     : "+r"(r0), "+r"(r1), "+r"(end), "+r"(r12), "+r"(lr)
                     :
                     : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "s0", "s1", "s15", "cc",
                       "memory");
}

// Inputs k and k + 2, or k + 1 and k + 3, which are halfwords of %[b], with all four outputs.
#define EMX_HALF_DOT                                                                               \
    "ldrd %[v], %[u], [%[w]], #8\n\t"                                                              \
    "sxtb16 %[t], %[v]\n\tsxtb16 %[v], %[v], ror #8\n\t"                                           \
    "smlad %[s0], %[t], %[b], %[s0]\n\tsmlad %[s1], %[v], %[b], %[s1]\n\t"                         \
    "sxtb16 %[t], %[u]\n\tsxtb16 %[u], %[u], ror #8\n\t"                                           \
    "smlad %[s2], %[t], %[b], %[s2]\n\tsmlad %[s3], %[u], %[b], %[s3]\n\t"

#define EMX_HAVE_dot_1x4_s8
EMX_INLINE void emx_dot_1x4_s8(int32_t acc[4], const int32_t b[4], const int8_t *x, const int8_t *w,
                               int32_t depth)
{
    int32_t s0 = b[0], s1 = b[1], s2 = b[2], s3 = b[3];
    uint32_t four, two, t, u, v;
    const int8_t *const end = x + depth;
    while (x != end) {
        __asm__ volatile(
            "1:\n\tldr %[a], [%[x]], #4\n\tsxtb16 %[b], %[a]\n\t" EMX_HALF_DOT
            "sxtb16 %[b], %[a], ror #8\n\t" EMX_HALF_DOT "cmp %[x], %[end]\n\tbne 1b"
            : [x] "+r"(x), [w] "+r"(w), [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3),
              [a] "=&r"(four), [b] "=&r"(two), [t] "=&r"(t), [u] "=&r"(u), [v] "=&r"(v)
            : [end] "r"(end)
            : "cc", "memory");
    }
    acc[0] = s0;
    acc[1] = s1;
    acc[2] = s2;
    acc[3] = s3;
}

#endif
