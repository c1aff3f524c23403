// SPDX-License-Identifier: Apache-2.0
// All outputs of one or two pixels, block by block, each block stored when it is done. One copy for
// all layers of a model.
#ifndef EMX_DOT_S8_H
#define EMX_DOT_S8_H
#include <emx/add_s8.h>
#include <emx/arch.h>
#include <emx/quant.h>

typedef struct {
    int32_t depth;   // inputs of an output, padded
    int32_t outputs; // of a pixel
    int32_t pitch;   // from a pixel's outputs to those of the next
    emx_result_s8_t to;
} emx_dot_s8_t;

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

// y[i][o] of `pixels` pixels (2: a staged pair, 1: x[depth]); w and q have all blocks.
EMX_INLINE void emx_outputs_s8(const emx_dot_s8_t *p, int pixels, int twice, const int8_t *x,
                               const int8_t *w, const int32_t *q, int8_t *y)
{
    const int32_t whole = p->outputs / EMX_BLOCK, rest = p->outputs % EMX_BLOCK;
    const emx_blocks_s8_t blocks = {p->depth, whole, p->to.zero, p->pitch};
    if (whole > 0) {
        emx_blocks_s8(&blocks, pixels, twice, x, w, q, y);
    }
    if (rest > 0) { // by the side, as a block writes four
        const emx_blocks_s8_t last = {p->depth, 1, p->to.zero, EMX_BLOCK};
        int8_t both[2 * EMX_BLOCK];
        emx_blocks_s8(&last, pixels, twice, x, w + whole * EMX_BLOCK * p->depth,
                      q + whole * EMX_BLOCK_PARAMS, both);
        for (int32_t i = 0; i < pixels * rest; i++) {
            y[i / rest * p->pitch + whole * EMX_BLOCK + i % rest] =
                both[i / rest * EMX_BLOCK + i % rest];
        }
    }
    if (p->to.lo > -128 || p->to.hi < 127) {
        for (int32_t i = 0; i < pixels; i++) {
            emx_clamp_run_s8(y + i * p->pitch, p->outputs, p->to.lo, p->to.hi);
        }
    }
}

EMX_INLINE void emx_outputs_2_s8(const emx_dot_s8_t *p, const int8_t *pair, const int8_t *w,
                                 const int32_t *q, int8_t *y)
{
    emx_outputs_s8(p, 2, 0, pair, w, q, y);
}

EMX_INLINE void emx_outputs_1_s8(const emx_dot_s8_t *p, const int8_t *x, const int8_t *w,
                                 const int32_t *q, int8_t *y)
{
    emx_outputs_s8(p, 1, 0, x, w, q, y);
}

// acc * m + the skip's term, in units of 2^-shift of the result's.
EMX_INLINE int64_t emx_direct_s8(const emx_direct_s8_t *d, int32_t skip, int32_t shift)
{
    const int64_t v = (int64_t)(skip - d->zero) * d->m;
    return shift >= d->shift ? v * ((int64_t)1 << (shift - d->shift)) : v >> (d->shift - shift);
}

// The same of `pixels` pixels (2: a staged pair), requantised in 64 bits; d->skip may be null.
EMX_SHARED void emx_outputs_wide_s8(const emx_dot_s8_t *p, int32_t pixels, const int8_t *x,
                                    const int8_t *w, const int32_t *q, const emx_direct_s8_t *d,
                                    int8_t *y)
{
    for (int32_t o = 0; o < p->outputs; o++) {
        int32_t acc[2 * EMX_BLOCK];
        const int32_t at = o % EMX_BLOCK;
        if (at == 0 && pixels == 2) {
            emx_dot_2x4_s8(acc, q, x, w, p->depth);
        } else if (at == 0) {
            emx_dot_1x4_s8(acc, q, x, w, p->depth);
        }
        const int32_t m = q[EMX_BLOCK_M + 2 * at], shift = q[EMX_BLOCK_SHIFT + 2 * at];
        for (int32_t i = 0; i < pixels; i++) {
            int64_t v = (int64_t)acc[i * EMX_BLOCK + at] * m;
            if (d->skip) {
                v += emx_direct_s8(d, d->skip[i * p->pitch + o], shift);
            }
            y[i * p->pitch + o] = (int8_t)emx_round_wide_s8(v, shift, &p->to);
        }
        if (at == EMX_BLOCK - 1) {
            w += EMX_BLOCK * p->depth;
            q += EMX_BLOCK_PARAMS;
        }
    }
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
