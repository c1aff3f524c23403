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
    int32_t lo, hi;
} emx_dot_s8_t;

// How weights and parameters are packed, and what follows from it; constants where outputs are
// computed.
typedef struct {
    int twice;   // see the micro-kernels of the target
    int words;   // of a block's parameters: EMX_BLOCK_PARAMS or EMX_SHORT_PARAMS
    int tail;    // outputs that are no whole block
    int clamped; // 1: bounds are narrower than those of int8_t
} emx_packing_s8_t;

EMX_INLINE int emx_clamped_s8(int32_t lo, int32_t hi) { return lo > INT8_MIN || hi < INT8_MAX; }

EMX_INLINE emx_dot_s8_t emx_dot_of_s8(int32_t depth, int32_t outputs, int32_t pitch, int32_t zero,
                                      int32_t lo, int32_t hi)
{
    const emx_blocks_s8_t blocks = {depth, outputs / EMX_BLOCK, pitch, emx_result_start(zero)};
    const emx_dot_s8_t dot = {blocks, outputs, lo, hi};
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

EMX_INLINE void emx_blocks_s8(const emx_blocks_s8_t *p, const emx_packing_s8_t *how, int pixels,
                              const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y)
{
    const bool twice = how->twice;
    if (how->words == EMX_SHORT_PARAMS && pixels == 2) {
        twice ? emx_short_2_twice_s8(p, x, w, q, y) : emx_short_2_s8(p, x, w, q, y);
    } else if (how->words == EMX_SHORT_PARAMS) {
        twice ? emx_short_1_twice_s8(p, x, w, q, y) : emx_short_1_s8(p, x, w, q, y);
    } else if (pixels == 2) {
        twice ? emx_blocks_2_twice_s8(p, x, w, q, y) : emx_blocks_2_s8(p, x, w, q, y);
    } else {
        twice ? emx_blocks_1_twice_s8(p, x, w, q, y) : emx_blocks_1_s8(p, x, w, q, y);
    }
}

// The last outputs, less than a block, of which all are computed by the side.
EMX_INLINE void emx_tail_s8(const emx_dot_s8_t *p, const emx_packing_s8_t *how, int pixels,
                            const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y)
{
    const emx_blocks_s8_t one = {p->blocks.depth, 1, EMX_BLOCK, p->blocks.start};
    int8_t both[2 * EMX_BLOCK];
    emx_blocks_s8(&one, how, pixels, x, w, q, both);
    for (int i = 0; i < pixels; i++) {
        memcpy(y + i * p->blocks.pitch, both + i * EMX_BLOCK, (size_t)how->tail);
    }
}

// y[i][o] of `pixels` pixels (2: a staged pair, 1: x[depth]); w and q have all blocks.
EMX_INLINE void emx_outputs_s8(const emx_dot_s8_t *p, const emx_packing_s8_t *how, int pixels,
                               const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y)
{
    const int32_t blocks = p->blocks.blocks;
    if (blocks > 0) {
        emx_blocks_s8(&p->blocks, how, pixels, x, w, q, y);
    }
    if (how->tail) {
        emx_tail_s8(p, how, pixels, x, w + EMX_BLOCK * p->blocks.depth * blocks,
                    q + how->words * blocks, y + EMX_BLOCK * blocks);
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
