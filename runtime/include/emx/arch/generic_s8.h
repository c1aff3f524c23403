// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of int8 layers with weights: the narrow waist between them and an
// instruction set. Results are the same to the bit everywhere.
//
// Four outputs are a block: their weights are int8_t [depth][4], in an order that the target
// chooses (python/emx/packing_s8.py), their parameters as emx/quant.h says. `depth` is a multiple
// of EMX_DEPTH; weights beyond the inputs are 0, so inputs there may be anything. Two pixels are
// staged in scratch as a pair, EMX_STAGED * depth bytes.
#ifndef EMX_ARCH_GENERIC_S8_H
#define EMX_ARCH_GENERIC_S8_H
#include <emx/emx.h>
#include <emx/quant.h>

#ifndef EMX_DEPTH
#define EMX_DEPTH 1  // inputs of an output are padded to a multiple of this
#define EMX_STAGED 2 // bytes of a pair for each input
#endif

#ifndef EMX_HAVE_weight_at_s8
// Where a block has the weight of input k and output o.
EMX_INLINE int32_t emx_weight_at_s8(int32_t k, int32_t o)
{
    return (k / EMX_DEPTH * EMX_BLOCK + o) * EMX_DEPTH + k % EMX_DEPTH;
}
#endif

#ifndef EMX_HAVE_copy_s8
EMX_INLINE void emx_copy_s8(int8_t *to, const int8_t *x, int32_t n) { memcpy(to, x, (size_t)n); }
#endif

#ifndef EMX_HAVE_gather_s8
// to[k] = x[offsets[k]] for k < n; `to` has room for a multiple of EMX_DEPTH
EMX_INLINE void emx_gather_s8(int8_t *to, const int8_t *x, const uint16_t *offsets, int32_t n)
{
    for (int32_t k = 0; k < n; k++) {
        to[k] = x[offsets[k]];
    }
}
#endif

#ifndef EMX_HAVE_look_up_s8
// y[i] = table[x[i] + 128] for i < n; y may start at x or anywhere before it.
EMX_INLINE void emx_look_up_s8(int8_t *y, const int8_t *x, const int8_t *table, int32_t n)
{
    const int8_t *const of_0 = table + 128;
    int32_t i = 0;
    for (; !EMX_SMALL && i + 8 <= n; i += 8) {
        EMX_UNROLL
        for (int k = 0; k < 8; k++) {
            y[i + k] = of_0[x[i + k]];
        }
    }
    for (; i < n; i++) {
        y[i] = of_0[x[i]];
    }
}
#endif

#ifndef EMX_HAVE_stage_2_s8
// Inputs [at, at + n) of both pixels of a pair; if EMX_STAGED is 4, `at` and n are multiples of 4.
EMX_INLINE void emx_stage_2_s8(int8_t *pair, int32_t depth, int32_t at, const int8_t *x0,
                               const int8_t *x1, int32_t n)
{
    emx_copy_s8(pair + at, x0, n);
    emx_copy_s8(pair + depth + at, x1, n);
}
#endif

#ifndef EMX_HAVE_dot_2x4_s8
// acc[i][o] = b[o] + sum_k x[i][k] * w[o][k] for the pixels i of a pair and the outputs o of a
// block
EMX_INLINE void emx_dot_2x4_s8(int32_t acc[8], const int32_t b[4], const int8_t *pair,
                               const int8_t *w, int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = acc[4 + o] = b[o];
    }
    EMX_UNROLL_2
    for (int32_t k = 0; k < depth; k++) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] += pair[k] * w[4 * k + o];
            acc[4 + o] += pair[depth + k] * w[4 * k + o];
        }
    }
}
#endif

#ifndef EMX_HAVE_dot_1x4_s8
// acc[o] = b[o] + sum_k x[k] * w[o][k] for the outputs o of a block
EMX_INLINE void emx_dot_1x4_s8(int32_t acc[4], const int32_t b[4], const int8_t *x, const int8_t *w,
                               int32_t depth)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        acc[o] = b[o];
    }
    EMX_UNROLL_2
    for (int32_t k = 0; k < depth; k++) {
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] += x[k] * w[4 * k + o];
        }
    }
}
#endif

#ifndef EMX_HAVE_scale_4_s8
// y[o] = emx_scale_s8(acc[o], ...) for o < n <= 4; q has the parameters of a block.
EMX_INLINE void emx_scale_4_s8(int8_t *y, const int32_t acc[4], const int32_t *q,
                               const emx_bounds_s8_t *in, int32_t n)
{
    EMX_UNROLL
    for (int o = 0; o < 4; o++) {
        if (o < n) {
            const int32_t m = q[EMX_BLOCK_M + 2 * o], start = q[EMX_BLOCK_START + 2 * o];
            y[o] = (int8_t)emx_scale_s8(acc[o], m, start, in);
        }
    }
}
#endif

#ifndef EMX_HAVE_blocks_2_s8
// y[i][o] = emx_scale_s8(...) of a pair, in all of int8_t. _twice: weights as the target packs them
// if `twice`.
EMX_SHARED void emx_blocks_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    const emx_bounds_s8_t all = {INT8_MIN, INT8_MAX};
    for (int32_t i = 0; i < p->blocks; i++) {
        int32_t acc[2 * EMX_BLOCK];
        emx_dot_2x4_s8(acc, q, pair, w, p->depth);
        emx_scale_4_s8(y, acc, q, &all, EMX_BLOCK);
        emx_scale_4_s8(y + p->pitch, acc + EMX_BLOCK, q, &all, EMX_BLOCK);
        w += EMX_BLOCK * p->depth;
        q += EMX_BLOCK_PARAMS;
        y += EMX_BLOCK;
    }
}
#define emx_blocks_2_twice_s8 emx_blocks_2_s8
#endif

#ifndef EMX_HAVE_blocks_1_s8
// The same of one pixel x[depth].
EMX_SHARED void emx_blocks_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                                const int32_t *q, int8_t *y)
{
    const emx_bounds_s8_t all = {INT8_MIN, INT8_MAX};
    for (int32_t i = 0; i < p->blocks; i++) {
        int32_t acc[EMX_BLOCK];
        emx_dot_1x4_s8(acc, q, x, w, p->depth);
        emx_scale_4_s8(y, acc, q, &all, EMX_BLOCK);
        w += EMX_BLOCK * p->depth;
        q += EMX_BLOCK_PARAMS;
        y += EMX_BLOCK;
    }
}
#define emx_blocks_1_twice_s8 emx_blocks_1_s8
#endif

#ifndef EMX_HAVE_short_2_s8
// emx_blocks_2_s8 of short parameters.
EMX_INLINE void emx_short_2_s8(const emx_blocks_s8_t *p, const int8_t *pair, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    const emx_blocks_s8_t one = {p->depth, 1, p->pitch, 0};
    for (int32_t i = 0; i < p->blocks; i++) {
        int32_t params[EMX_BLOCK_PARAMS];
        emx_unpack_block_s8(q + i * EMX_SHORT_PARAMS, p->start, params);
        emx_blocks_2_s8(&one, pair, w + i * EMX_BLOCK * p->depth, params, y + i * EMX_BLOCK);
    }
}
#define emx_short_2_twice_s8 emx_short_2_s8
#endif

#ifndef EMX_HAVE_short_1_s8
// The same of one pixel x[depth].
EMX_INLINE void emx_short_1_s8(const emx_blocks_s8_t *p, const int8_t *x, const int8_t *w,
                               const int32_t *q, int8_t *y)
{
    const emx_blocks_s8_t one = {p->depth, 1, p->pitch, 0};
    for (int32_t i = 0; i < p->blocks; i++) {
        int32_t params[EMX_BLOCK_PARAMS];
        emx_unpack_block_s8(q + i * EMX_SHORT_PARAMS, p->start, params);
        emx_blocks_1_s8(&one, x, w + i * EMX_BLOCK * p->depth, params, y + i * EMX_BLOCK);
    }
}
#define emx_short_1_twice_s8 emx_short_1_s8
#endif

#endif
