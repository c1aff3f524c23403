// SPDX-License-Identifier: Apache-2.0
// Requantisation: a sum times a real, rounded once, half up, in 8 bits. To the bit as
// python/emx/quant.py says it.
#ifndef EMX_QUANT_H
#define EMX_QUANT_H
#include <emx/emx.h>

// Four outputs are a block; their parameters lie beside each other, int32_t [12]: what the sums
// start from; then of each a multiplier, whose lowest byte is the left shift of the sum, and what
// the scaled sum starts from: the zero point, a half, and what of the bias is no whole unit.
enum {
    EMX_BLOCK = 4,
    EMX_BLOCK_BIAS = 0,  // + o
    EMX_BLOCK_M = 4,     // + 2 * o
    EMX_BLOCK_START = 5, // + 2 * o
    EMX_BLOCK_PARAMS = 12,
    EMX_SHORT_PARAMS = 7, // of emx_unpack_block_s8
    EMX_SCALE_SHIFT = 9,  // the unit of a scaled sum is 2^-9 of the result's
    EMX_MAX_SHIFT = 41    // a multiplier m is m * 2^-41, of a sum that is not shifted
};

// How results are stored: clamp(v + zero, lo, hi), all in the range of int8_t.
typedef struct {
    int32_t zero, lo, hi;
} emx_result_s8_t;

// How results are stored that have their zero point: clamp(v, lo, hi).
typedef struct {
    int32_t lo, hi;
} emx_bounds_s8_t;

// All outputs of one or two pixels, as a multiple of four: what the micro-kernels take.
typedef struct {
    int32_t depth, blocks;
    int32_t pitch; // from a pixel's outputs to those of the next
    int32_t start; // of all scaled sums, if parameters are short
} emx_blocks_s8_t;

EMX_INLINE int32_t emx_clamp_s32(int32_t v, int32_t lo, int32_t hi)
{
    return emx_max_s32(emx_min_s32(v, hi), lo);
}

// v << k, where that is a 32-bit number.
EMX_INLINE int32_t emx_shift_left_s32(int32_t v, int32_t k) { return (int32_t)((uint32_t)v << k); }

// The upper half of a product.
EMX_INLINE int32_t emx_high_s32(int32_t a, int32_t b) { return (int32_t)((int64_t)a * b >> 32); }

// What a scaled sum starts from: the zero point, and a half.
EMX_INLINE int32_t emx_result_start(int32_t zero)
{
    return zero * (1 << EMX_SCALE_SHIFT) + (1 << (EMX_SCALE_SHIFT - 1));
}

// A block of parameters from a short one: four multipliers, then four biases of 24 bits.
EMX_SHARED void emx_unpack_block_s8(const int32_t *packed, int32_t start, int32_t *q)
{
    const int8_t *const before = (const int8_t *)packed + 15; // a byte before the biases
    for (int32_t o = 0; o < EMX_BLOCK; o++) {
        int32_t b;
        memcpy(&b, before + 3 * o, sizeof b);
        q[EMX_BLOCK_BIAS + o] = b >> 8;
        q[EMX_BLOCK_M + 2 * o] = packed[o];
        q[EMX_BLOCK_START + 2 * o] = start;
    }
}

// How far a sum is shifted before it is multiplied by m.
EMX_INLINE int32_t emx_left_of(int32_t m) { return m & 255; }

// m and start as those of a block; acc << emx_left_of(m) is a 32-bit number. Floors collapse, so it
// is one rounding.
EMX_INLINE int32_t emx_scale_s8(int32_t acc, int32_t m, int32_t start, const emx_bounds_s8_t *in)
{
    const int32_t v = emx_high_s32(emx_shift_left_s32(acc, emx_left_of(m)), m) + start;
    return emx_clamp_s32(v >> EMX_SCALE_SHIFT, in->lo, in->hi);
}

// The same of a sum to which `term` is added, below 2^61, in units of 2^-41 of the result's.
EMX_INLINE int32_t emx_scale_added_s8(int32_t acc, int64_t term, int32_t m, int32_t start,
                                      const emx_bounds_s8_t *in)
{
    const int64_t v = (int64_t)emx_shift_left_s32(acc, emx_left_of(m)) * m + term;
    return emx_clamp_s32(((int32_t)(v >> 32) + start) >> EMX_SCALE_SHIFT, in->lo, in->hi);
}

// emx_scale_s8 of any sum; v: the product, or what else is below 2^62, in its units.
EMX_INLINE int32_t emx_scale_wide_s8(int64_t v, int32_t m, int32_t start, const emx_bounds_s8_t *in)
{
    const int32_t shift = EMX_MAX_SHIFT - emx_left_of(m);
    const int64_t y = (v + start * ((int64_t)1 << (shift - EMX_SCALE_SHIFT))) >> shift;
    return y < in->lo ? in->lo : y > in->hi ? in->hi : (int32_t)y;
}

// m * 2^-shift with k = 41 - shift, 0 <= k < 32, acc << k is a 32-bit number.
EMX_INLINE int32_t emx_requantise_s8(int32_t acc, int32_t m, int32_t k, const emx_result_s8_t *to)
{
    const int32_t v = emx_high_s32(emx_shift_left_s32(acc, k), m) + emx_result_start(to->zero);
    return emx_clamp_s32(v >> EMX_SCALE_SHIFT, to->lo, to->hi);
}

// v * 2^-shift, v below 2^62 and 1 <= shift <= 62.
EMX_INLINE int32_t emx_round_wide_s8(int64_t v, int32_t shift, const emx_result_s8_t *to)
{
    const int64_t y = ((v + ((int64_t)1 << (shift - 1))) >> shift) + to->zero;
    return y < to->lo ? to->lo : y > to->hi ? to->hi : (int32_t)y;
}

// emx_requantise_s8 for all other shifts and sums.
EMX_INLINE int32_t emx_requantise_wide_s8(int32_t acc, int32_t m, int32_t shift,
                                          const emx_result_s8_t *to)
{
    return emx_round_wide_s8((int64_t)acc * m, shift, to);
}

#endif
