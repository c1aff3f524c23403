// SPDX-License-Identifier: Apache-2.0
// Depthwise layers of any kernel with the DSP instructions of Armv7E-M and Armv8-M: two products in
// one.
//
// The ring holds halfwords, two columns in a word; the words of all rows of a pair of columns lie
// beside each other. Weights lie before it in words too. Where the first column of an output is
// even, its words are (w0, w1), (w2, w3), ...; where it is odd, (0, w0), (w1, w2), ...
#ifndef EMX_ARCH_DSP_PLANE_S8_H
#define EMX_ARCH_DSP_PLANE_S8_H
#include <emx/plane_s8.h>

#define EMX_HAVE_plane_s8

enum { EMX_3X3_WORDS = 10 }; // of weights in arch/dsp_3x3_s8.h

// acc + the products of both halves
EMX_INLINE int32_t emx_mac_both_s16(int32_t acc, uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

EMX_INLINE uint32_t emx_both_s16(int32_t low, int32_t high)
{
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(low), "r"(high));
    return r;
}

EMX_INLINE uint32_t emx_plane_load_s8(const int8_t *ring)
{
    uint32_t v;
    memcpy(&v, ring, 4);
    return v;
}

EMX_INLINE void emx_plane_store_s8(int8_t *ring, uint32_t v) { memcpy(ring, &v, 4); }

// Words of weights of a row for an even first column, and for an odd one.
EMX_INLINE int32_t emx_plane_even_s8(const emx_plane_s8_t *p)
{
    return (emx_plane_reach_w_s8(p) + 1) / 2;
}

EMX_INLINE int32_t emx_plane_odd_s8(const emx_plane_s8_t *p)
{
    return p->stride_w % 2 ? emx_plane_reach_w_s8(p) / 2 + 1 : 0;
}

// Words of a row of the ring, one for each pair of columns.
EMX_INLINE int32_t emx_plane_pairs_s8(const emx_plane_s8_t *p)
{
    return (emx_plane_columns_s8(p) + 1) / 2;
}

EMX_INLINE int8_t *emx_plane_ring_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    const int32_t words = p->kernel_h * (emx_plane_even_s8(p) + emx_plane_odd_s8(p));
    return scratch + 4 * (p->quick ? (int32_t)EMX_3X3_WORDS : words);
}

EMX_INLINE int32_t emx_plane_rows_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 1;
}

EMX_INLINE int32_t emx_plane_slots_s8(const emx_plane_s8_t *p) { return emx_plane_reach_h_s8(p); }

EMX_INLINE void emx_plane_start_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    int8_t *const ring = emx_plane_ring_s8(p, scratch);
    for (int32_t i = 0; i < emx_plane_pairs_s8(p) * emx_plane_reach_h_s8(p); i++) {
        emx_plane_store_s8(ring + 4 * i, emx_both_s16(p->x_zero, p->x_zero));
    }
}

// The weight of column `at` of row i: 0 between the taps and beyond them.
EMX_INLINE int32_t emx_plane_weight_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                       int32_t i, int32_t at)
{
    const int32_t j = at / p->dilation_w;
    const bool tap = at >= 0 && at % p->dilation_w == 0 && j < p->kernel_w;
    return tap ? c->w[4 * (i * p->kernel_w + j)] * (1 << (p->folded ? emx_left_of(c->m) : 0)) : 0;
}

EMX_INLINE void emx_plane_weights_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                     int8_t *scratch)
{
    for (int32_t i = 0; i < p->kernel_h; i++) {
        for (int32_t j = 0; j < emx_plane_even_s8(p) + emx_plane_odd_s8(p); j++) {
            const int32_t odd = j - emx_plane_even_s8(p);
            const int32_t at = odd < 0 ? 2 * j : 2 * odd - 1;
            emx_plane_store_s8(scratch, emx_both_s16(emx_plane_weight_s8(p, c, i, at),
                                                     emx_plane_weight_s8(p, c, i, at + 1)));
            scratch += 4;
        }
    }
}

EMX_INLINE void emx_plane_stage_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t slot,
                                   bool inside, const int8_t *x)
{
    const int32_t pair = 4 * emx_plane_reach_h_s8(p);
    int8_t *const row = emx_plane_ring_s8(p, scratch) + 4 * slot;
    if (inside) {
        for (int32_t i = p->pad_left; i < p->pad_left + p->used; i++) {
            const int16_t v = *x;
            memcpy(row + i / 2 * pair + i % 2 * 2, &v, 2);
            x += p->x_col;
        }
    } else {
        for (int32_t i = 0; i < emx_plane_pairs_s8(p); i++) {
            emx_plane_store_s8(row + i * pair, emx_both_s16(p->x_zero, p->x_zero));
        }
    }
}

// The sum of one output; i is its first column.
EMX_INLINE int32_t emx_plane_sum_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t slot,
                                    int32_t i, int32_t acc)
{
    const int32_t height = emx_plane_reach_h_s8(p);
    const int32_t even = emx_plane_even_s8(p), odd = emx_plane_odd_s8(p);
    const bool second = p->stride_w % 2 && i % 2;
    const int8_t *const ring = emx_plane_ring_s8(p, scratch),
                        *w = scratch + (second ? 4 * even : 0);
    for (int32_t ky = 0; ky < p->kernel_h; ky++) {
        const int8_t *const x = ring + 4 * (i / 2 * height + slot);
        for (int32_t k = 0; k < (second ? odd : even); k++) {
            acc = emx_mac_both_s16(acc, emx_plane_load_s8(x + 4 * k * height),
                                   emx_plane_load_s8(w + 4 * k));
        }
        w += 4 * (even + odd);
        slot += p->dilation_h;
        slot -= slot < height ? 0 : height;
    }
    return acc;
}

EMX_INLINE void emx_plane_row_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t first,
                                 const emx_channel_s8_t *c, int8_t *y, int32_t rows)
{
    const int32_t b = p->folded ? emx_shift_left_s32(c->b, emx_left_of(c->m)) : c->b;
    (void)rows;
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t acc = emx_plane_sum_s8(p, scratch, first, ox * p->stride_w, b);
        if (p->folded) {
            const int32_t v = (emx_high_s32(acc, c->m) + c->start) >> EMX_SCALE_SHIFT;
            y[ox * p->y_col] = (int8_t)emx_clamp_s32(v, p->in.lo, p->in.hi);
        } else {
            y[ox * p->y_col] = (int8_t)emx_plane_result_s8(p, c, acc);
        }
    }
}

#endif
