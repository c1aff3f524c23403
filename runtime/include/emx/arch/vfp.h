// SPDX-License-Identifier: Apache-2.0
// Micro-kernels for the scalar floating-point unit of Cortex-M4F, M7 and M33.
//
// One VLDMIA reads what would take up to eight loads. GCC does not make it by itself, and it wants
// consecutive registers: so the operands of a step have registers of their own, s0 to s9, and the
// compiler allocates the sums in the others.
#ifndef EMX_ARCH_VFP_H
#define EMX_ARCH_VFP_H
#include <emx/emx.h>

EMX_STATIC_ASSERT(EMX_LANES == 4, "the registers hold tiles of four lanes");

// Two steps in k for one pixel, whose x are in s8 and s9, and one column, whose w are in s0 to s7.
#define EMX_FMA_2X4(a, b, c, d)                                                                    \
    "vfma.f32 " a ", s8, s0\n\tvfma.f32 " b ", s8, s1\n\t"                                         \
    "vfma.f32 " c ", s8, s2\n\tvfma.f32 " d ", s8, s3\n\t"                                         \
    "vfma.f32 " a ", s9, s4\n\tvfma.f32 " b ", s9, s5\n\t"                                         \
    "vfma.f32 " c ", s9, s6\n\tvfma.f32 " d ", s9, s7\n\t"
#define EMX_SUMS(a) "+t"((a)[0]), "+t"((a)[1]), "+t"((a)[2]), "+t"((a)[3])
#define EMX_CLOBBERS "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"

// Two steps in k of a tile of four pixels by one column; the pointers move on.
EMX_INLINE void emx_mac_2x4x4_f32(float *acc, const float **x, const float **w)
{
    register float w0 __asm__("s0"), w1 __asm__("s1"), w2 __asm__("s2"), w3 __asm__("s3");
    register float w4 __asm__("s4"), w5 __asm__("s5"), w6 __asm__("s6"), w7 __asm__("s7");
    __asm__ volatile("vldmia %0!, {s0-s7}"
                     : "+r"(*w), "=t"(w0), "=t"(w1), "=t"(w2), "=t"(w3), "=t"(w4), "=t"(w5),
                       "=t"(w6), "=t"(w7)
                     :
                     : "memory");
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        __asm__ volatile("vldmia %4!, {s8-s9}\n\t" EMX_FMA_2X4("%0", "%1", "%2", "%3")
                         : EMX_SUMS(acc + 4 * i), "+r"(x[i])
                         : "t"(w0), "t"(w1), "t"(w2), "t"(w3), "t"(w4), "t"(w5), "t"(w6), "t"(w7)
                         : "s8", "s9", "memory");
    }
}

// Two steps in k of one pixel by one column; w moves on.
EMX_INLINE void emx_mac_2x1x4_f32(float *acc, const float *x, const float **w)
{
    __asm__ volatile("vldmia %4!, {s0-s7}\n\t"
                     "vldmia %5, {s8-s9}\n\t" EMX_FMA_2X4("%0", "%1", "%2", "%3")
                     : EMX_SUMS(acc), "+r"(*w)
                     : "r"(x)
                     : EMX_CLOBBERS, "memory");
}

// One step in k of one pixel by one column; w moves on.
EMX_INLINE void emx_mac_1x1x4_f32(float *acc, float x, const float **w)
{
    __asm__ volatile("vldmia %4!, {s0-s3}\n\t"
                     "vfma.f32 %0, %5, s0\n\tvfma.f32 %1, %5, s1\n\t"
                     "vfma.f32 %2, %5, s2\n\tvfma.f32 %3, %5, s3"
                     : EMX_SUMS(acc), "+r"(*w)
                     : "t"(x)
                     : "s0", "s1", "s2", "s3", "memory");
}

#define EMX_WIDE_PIXEL 0

#define EMX_HAVE_mac_f32
EMX_INLINE void emx_mac_f32(float *acc, int pixels, int columns, const float *const *x,
                            int32_t step, const float *w, int32_t column, int32_t n)
{
    const float *at[EMX_TILE_PIXELS], *from[EMX_TILE_VECTORS];
    EMX_UNROLL
    for (int i = 0; i < EMX_TILE_PIXELS; i++) {
        at[i] = i < pixels ? x[i] : NULL;
    }
    EMX_UNROLL
    for (int j = 0; j < columns; j++) {
        from[j] = w + j * column;
    }
    int32_t k = 0;
    for (; step == 1 && k + 2 <= n; k += 2) {
        if (pixels == 4) {
            emx_mac_2x4x4_f32(acc, at, from);
        } else {
            EMX_UNROLL
            for (int j = 0; j < columns; j++) {
                emx_mac_2x1x4_f32(acc + 4 * j, at[0], &from[j]);
            }
            at[0] += 2;
        }
    }
    for (; k < n; k++) {
        EMX_UNROLL
        for (int i = 0; i < pixels * columns; i++) {
            const float *to = from[i % columns];
            emx_mac_1x1x4_f32(acc + 4 * i, x[i / columns][k * step], &to);
        }
        EMX_UNROLL
        for (int j = 0; j < columns; j++) {
            from[j] += 4;
        }
    }
}

#define EMX_HAVE_mac_lanes_f32
EMX_INLINE void emx_mac_lanes_f32(float *acc, const float *x, const float *w, int lanes)
{
    if (lanes == 4) {
        __asm__ volatile("vldmia %4, {s0-s3}\n\t"
                         "vldmia %5, {s4-s7}\n\t"
                         "vfma.f32 %0, s0, s4\n\tvfma.f32 %1, s1, s5\n\t"
                         "vfma.f32 %2, s2, s6\n\tvfma.f32 %3, s3, s7"
                         : EMX_SUMS(acc)
                         : "r"(x), "r"(w)
                         : EMX_CLOBBERS, "memory");
    } else {
        for (int o = 0; o < lanes; o++) {
            acc[o] += x[o] * w[o];
        }
    }
}

#endif
