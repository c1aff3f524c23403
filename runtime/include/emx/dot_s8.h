// SPDX-License-Identifier: Apache-2.0
// All outputs of one or two pixels, block by block, each block stored when it is done. One copy for
// all layers of a model.
#ifndef EMX_DOT_S8_H
#define EMX_DOT_S8_H
#include <emx/add_s8.h>
#include <emx/arch.h>
#include <emx/quant.h>

// What becomes of a pixel's outputs: whole blocks, and those that are left, in [lo, hi].
typedef struct {
    emx_blocks_s8_t blocks;
    int32_t outputs;
    int32_t zero, lo, hi;
} emx_dot_s8_t;

// How weights and parameters are packed, and what follows from it; constants where outputs are
// computed.
typedef struct {
    int twice;   // see the micro-kernels of the target
    int words;   // of a block's parameters: EMX_BLOCK_PARAMS, or as emx_unpack_block_s8 has them
    int tail;    // outputs that are no whole block
    int clamped; // 1: bounds are narrower than those of int8_t
} emx_packing_s8_t;

EMX_INLINE int emx_clamped_s8(int32_t lo, int32_t hi) { return lo > INT8_MIN || hi < INT8_MAX; }

EMX_INLINE emx_dot_s8_t emx_dot_of_s8(int32_t depth, int32_t outputs, int32_t pitch, int32_t zero,
                                      int32_t lo, int32_t hi)
{
    const emx_dot_s8_t dot = {{depth, outputs / EMX_BLOCK, pitch}, outputs, zero, lo, hi};
    return dot;
}

// A term that is added before the rounding: (skip[o] - zero) * m * 2^-shift, in results.
typedef struct {
    const int8_t *skip; // of the first pixel; `pitch` as for y
    int32_t zero, m, shift;
} emx_direct_s8_t;

// y[i] in [lo, hi] for i < n
EMX_SHARED void emx_clamp_run_s8(int8_t *y, int32_t n, int32_t lo, int32_t hi)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = (int8_t)emx_clamp_s32(y[i], lo, hi);
    }
}

EMX_INLINE void emx_blocks_s8(const emx_blocks_s8_t *p, int pixels, int twice, const int8_t *x,
                              const int8_t *w, const int32_t *q, int8_t *y)
{
    if (pixels == 2 && twice) {
        emx_blocks_2_twice_s8(p, x, w, q, y);
    } else if (pixels == 2) {
        emx_blocks_2_s8(p, x, w, q, y);
    } else if (twice) {
        emx_blocks_1_twice_s8(p, x, w, q, y);
    } else {
        emx_blocks_1_s8(p, x, w, q, y);
    }
}

// A block of emx/quant.h from one of `words` words: four multipliers, then four biases, of 24 bits
// if there are 7 words, of 32 if there are 8. What results start from is their zero point.
EMX_SHARED void emx_unpack_block_s8(const int32_t *packed, int32_t words, int32_t twice,
                                    int32_t zero, int32_t *q)
{
    const int8_t *const before = (const int8_t *)packed + 15; // a byte before the biases
    for (int32_t o = 0; o < EMX_BLOCK; o++) {
        int32_t b;
        memcpy(&b, before + 3 * o, sizeof b);
        b = words == 7 ? b >> 8 : packed[EMX_BLOCK + o];
        q[EMX_BLOCK_BIAS + o] = twice & o ? (int32_t)((uint32_t)b * 256 + (uint32_t)q[o - 1]) : b;
        q[EMX_BLOCK_M + 2 * o] = packed[o];
        q[EMX_BLOCK_START + 2 * o] = emx_result_start(zero);
    }
}

// One block, or the first `n` outputs of it, of which a block's all are computed by the side.
EMX_INLINE void emx_block_s8(const emx_dot_s8_t *p, const emx_packing_s8_t *how, int pixels,
                             int32_t n, const int8_t *x, const int8_t *w, const int32_t *q,
                             int8_t *y)
{
    const emx_blocks_s8_t one = {p->blocks.depth, 1, EMX_BLOCK};
    int32_t params[EMX_BLOCK_PARAMS];
    int8_t both[2 * EMX_BLOCK];
    const bool compact = how->words != EMX_BLOCK_PARAMS;
    if (compact) {
        emx_unpack_block_s8(q, how->words, how->twice, p->zero, params);
    }
    emx_blocks_s8(&one, pixels, how->twice, x, w, compact ? params : q, both);
    for (int i = 0; i < pixels; i++) {
        memcpy(y + i * p->blocks.pitch, both + i * EMX_BLOCK, (size_t)n);
    }
}

// y[i][o] of `pixels` pixels (2: a staged pair, 1: x[depth]); w and q have all blocks.
EMX_INLINE void emx_outputs_s8(const emx_dot_s8_t *p, const emx_packing_s8_t *how, int pixels,
                               const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y)
{
    const int32_t block = EMX_BLOCK * p->blocks.depth;
    const bool compact = how->words != EMX_BLOCK_PARAMS;
    for (int32_t i = 0; i < p->blocks.blocks && compact; i++) {
        emx_block_s8(p, how, pixels, EMX_BLOCK, x, w + i * block, q + i * how->words,
                     y + i * EMX_BLOCK);
    }
    if (p->blocks.blocks > 0 && !compact) {
        emx_blocks_s8(&p->blocks, pixels, how->twice, x, w, q, y);
    }
    if (how->tail) {
        const int32_t i = p->blocks.blocks;
        emx_block_s8(p, how, pixels, how->tail, x, w + i * block, q + i * how->words,
                     y + i * EMX_BLOCK);
    }
    if (how->clamped) {
        for (int32_t i = 0; i < pixels; i++) {
            emx_clamp_run_s8(y + i * p->blocks.pitch, p->outputs, p->lo, p->hi);
        }
    }
}

EMX_INLINE void emx_outputs_2_s8(const emx_dot_s8_t *p, const int8_t *pair, const int8_t *w,
                                 const int32_t *q, int8_t *y)
{
    const emx_packing_s8_t how = {0, EMX_BLOCK_PARAMS, p->outputs % EMX_BLOCK,
                                  emx_clamped_s8(p->lo, p->hi)};
    emx_outputs_s8(p, &how, 2, pair, w, q, y);
}

EMX_INLINE void emx_outputs_1_s8(const emx_dot_s8_t *p, const int8_t *x, const int8_t *w,
                                 const int32_t *q, int8_t *y)
{
    const emx_packing_s8_t how = {0, EMX_BLOCK_PARAMS, p->outputs % EMX_BLOCK,
                                  emx_clamped_s8(p->lo, p->hi)};
    emx_outputs_s8(p, &how, 1, x, w, q, y);
}

// The skip's term, in units of 2^-shift of the result's, rounded down.
EMX_INLINE int64_t emx_direct_s8(const emx_direct_s8_t *d, int32_t skip, int32_t shift)
{
    const int64_t v = (int64_t)(skip - d->zero) * d->m;
    return shift >= d->shift ? v * ((int64_t)1 << (shift - d->shift)) : v >> (d->shift - shift);
}

// The result of a sum and a skip's integer.
EMX_INLINE int32_t emx_added_s8(const emx_direct_s8_t *d, int wide, int32_t acc, int32_t skip,
                                int32_t m, int32_t start, const emx_bounds_s8_t *in)
{
    if (wide) {
        const int32_t shift = EMX_MAX_SHIFT - emx_left_of(m);
        const int64_t term = d->skip ? emx_direct_s8(d, skip, shift) : 0;
        return emx_scale_wide_s8((int64_t)acc * m + term, m, start, in);
    }
    // In units of 2^-41 nothing is lost: the skip is shifted to the left, as the sum is.
    const int32_t v = emx_shift_left_s32(skip - d->zero, EMX_MAX_SHIFT - d->shift);
    return emx_scale_added_s8(acc, (int64_t)v * d->m, m, start, in);
}

// As emx_outputs_s8, of plain weights, block by block, each output just after its skip.
EMX_INLINE void emx_outputs_added_s8(const emx_dot_s8_t *p, int wide, int32_t pixels,
                                     const int8_t *x, const int8_t *w, const int32_t *q,
                                     const emx_direct_s8_t *direct, int8_t *y)
{
    // Copies: y could be any of them, for all that compilers know.
    const emx_direct_s8_t d = *direct;
    const emx_bounds_s8_t in = {p->lo, p->hi};
    const int32_t depth = p->blocks.depth, pitch = p->blocks.pitch, outputs = p->outputs;
    for (int32_t o = 0; o < outputs; o += EMX_BLOCK) {
        int32_t acc[2 * EMX_BLOCK];
        const int32_t n = emx_min_s32(outputs - o, EMX_BLOCK);
        if (pixels == 2) {
            emx_dot_2x4_s8(acc, q, x, w, depth);
        } else {
            emx_dot_1x4_s8(acc, q, x, w, depth);
        }
        EMX_ROLLED
        for (int32_t i = 0; i < pixels; i++) {
            EMX_ROLLED
            for (int32_t k = 0; k < n; k++) {
                const int32_t at = i * pitch + o + k, skip = d.skip ? d.skip[at] : 0;
                const int32_t m = q[EMX_BLOCK_M + 2 * k], start = q[EMX_BLOCK_START + 2 * k];
                y[at] = (int8_t)emx_added_s8(&d, wide, acc[i * EMX_BLOCK + k], skip, m, start, &in);
            }
        }
        w += EMX_BLOCK * depth;
        q += EMX_BLOCK_PARAMS;
    }
}

// Of sums that are scaled in 64 bits; d->skip may be null.
EMX_SHARED void emx_outputs_wide_s8(const emx_dot_s8_t *p, int32_t pixels, const int8_t *x,
                                    const int8_t *w, const int32_t *q, const emx_direct_s8_t *d,
                                    int8_t *y)
{
    emx_outputs_added_s8(p, 1, pixels, x, w, q, d, y);
}

// Of other sums, with a skip.
EMX_SHARED void emx_outputs_direct_s8(const emx_dot_s8_t *p, int32_t pixels, const int8_t *x,
                                      const int8_t *w, const int32_t *q, const emx_direct_s8_t *d,
                                      int8_t *y)
{
    emx_outputs_added_s8(p, 0, pixels, x, w, q, d, y);
}

// y[i] = the sum of v[i] and skip[i]
EMX_SHARED void emx_add_run_s8(const int32_t add[EMX_ADD_PARAMS], const int8_t *v,
                               const int8_t *skip, int8_t *y, int32_t n)
{
    int32_t i = 0, p[EMX_ADD_PARAMS]; // of its own: y could be `add`, for all that compilers know
    memcpy(p, add, sizeof p);
    for (; i + 4 <= n; i += 4) {
        emx_add_4_s8(p, v + i, skip + i, y + i);
    }
    for (; i < n; i++) {
        y[i] = (int8_t)emx_add_s8(p, v[i], skip[i]);
    }
}

#endif
