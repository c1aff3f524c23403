// SPDX-License-Identifier: Apache-2.0
// Fixed-point functions for kernels without floats; python/emx/fixed.py has the same bits.
#ifndef EMX_FIXED_H
#define EMX_FIXED_H
#include <emx/emx.h>

// The upper half of a product.
EMX_INLINE uint32_t emx_high_u32(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}

// v / 2^shift, rounded half up, or half to even; 1 <= shift.
EMX_INLINE int64_t emx_round_s64(int64_t v, int32_t shift)
{
    return (v + (INT64_C(1) << (shift - 1))) >> shift;
}

EMX_INLINE int64_t emx_round_even_s64(int64_t v, int32_t shift)
{
    return (v + (INT64_C(1) << (shift - 1)) - 1 + (v >> shift & 1)) >> shift;
}

// v + zero, at least lo and at most hi; lo and hi are in the range of int8_t.
EMX_INLINE int8_t emx_clamp_s8(int64_t v, int32_t zero, int32_t lo, int32_t hi)
{
    return (int8_t)(v < lo - zero ? lo : v > hi - zero ? hi : (int32_t)v + zero);
}

// *v shifted right until it fits 32 bits; returns by how much.
EMX_INLINE int32_t emx_normalise_u64(uint64_t *v)
{
    int32_t n = 0;
    while (*v >> 32) {
        *v >>= 1;
        n++;
    }
    return n;
}

// 2^63 / n for 2^31 <= n, at most 2^-29 of it too small: one step of Newton's method from a
// quotient of 16 bits.
EMX_INLINE uint32_t emx_reciprocal_u32(uint32_t n)
{
    const uint32_t a = UINT32_MAX / (n >> 16);
    const uint64_t rest = ((UINT64_C(1) << 49) - (uint64_t)n * a) >> 16;
    return (uint32_t)(a * rest >> 17);
}

// floor(log2(n / 2^31) * 2^20) for 2^31 <= n, by 20 squarings that are rounded down.
EMX_INLINE uint32_t emx_log2_u32(uint32_t n)
{
    uint32_t y = 0;
    for (int i = 0; i < 20; i++) {
        const uint64_t square = (uint64_t)n * n >> 31;
        const uint32_t over = (uint32_t)(square >> 32);
        n = (uint32_t)(square >> over);
        y = y << 1 | over;
    }
    return y;
}

// *v as n * 2^(2e), rounded down, with 2^30 <= n; returns e. 1 <= *v < 2^63.
EMX_INLINE int32_t emx_normalise_even_u64(uint64_t *v)
{
    int32_t e = 0;
    for (; *v >> 32; *v >>= 2) {
        e++;
    }
    for (; *v >> 30 == 0; *v <<= 2) {
        e--;
    }
    return e;
}

// 2^46 / sqrt(n) for 2^30 <= n, but for 2^-24 of it: a straight line, then three steps of Newton's
// method.
EMX_INLINE uint32_t emx_rsqrt_u32(uint32_t n)
{
    uint32_t y = 2287070085u - emx_high_u32(n, 1304596316u);
    for (int i = 0; i < 3; i++) {
        const uint32_t rest = (3u << 28) - emx_high_u32(emx_high_u32(y, y), n);
        y = (uint32_t)((uint64_t)y * rest >> 29);
    }
    return y;
}

// tanh in 2^-15 of x in 2^-bits, 6 <= bits: a straight line between two entries of the table, which
// has tanh(i / 32) for i <= 256, rounded half up, and of a negative x less the value of -x.
EMX_INLINE int32_t emx_tanh_s32(const int16_t *table, int32_t x, int32_t bits)
{
    const int32_t a = emx_min_s32(x < 0 ? -x : x, (8 << bits) - 1), step = bits - 5;
    const int32_t from = table[a >> step], rise = table[(a >> step) + 1] - from;
    const int32_t y = from + ((rise * (a & ((1 << step) - 1)) + (1 << (step - 1))) >> step);
    return x < 0 ? -y : y;
}

// 1 / (1 + e^-x) in 2^-15 of x in 2^-bits: (1 + tanh(x / 2)) / 2, rounded down.
EMX_INLINE int32_t emx_sigmoid_s32(const int16_t *table, int32_t x, int32_t bits)
{
    return 16384 + (emx_tanh_s32(table, x, bits + 1) >> 1);
}

#endif
