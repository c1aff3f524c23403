// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of depthwise layers: the rows of one channel lie in a ring in scratch, wide
// enough for the padding, and outputs are computed from there. So a channel of x may be overwritten
// row by row. Results are the same to the bit everywhere.
//
// python/emx/depthwise_s8.py knows how much scratch an instruction set needs, and how many rows of
// outputs it computes at once.
#ifndef EMX_ARCH_GENERIC_PLANE_S8_H
#define EMX_ARCH_GENERIC_PLANE_S8_H
#include <emx/plane_s8.h>

#ifndef EMX_HAVE_plane_s8
// Rows of outputs that are computed at once.
EMX_INLINE int32_t emx_plane_rows_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 1;
}

// Rows of the ring.
EMX_INLINE int32_t emx_plane_slots_s8(const emx_plane_s8_t *p) { return emx_plane_reach_h_s8(p); }

// Before all channels: what lies beyond the image to the left and right.
EMX_INLINE void emx_plane_start_s8(const emx_plane_s8_t *p, int8_t *ring)
{
    memset(ring, p->x_zero, (size_t)(emx_plane_reach_h_s8(p) * emx_plane_columns_s8(p)));
}

// Before a channel.
EMX_INLINE void emx_plane_weights_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                     int8_t *ring)
{
    (void)p;
    (void)c;
    (void)ring;
}

// The next row, x or beyond the image if x is null, in the slot `slot`.
EMX_INLINE void emx_plane_stage_s8(const emx_plane_s8_t *p, int8_t *ring, int32_t slot,
                                   const int8_t *x)
{
    int8_t *const row = ring + slot * emx_plane_columns_s8(p) + p->pad_left;
    if (x) {
        for (int32_t i = 0; i < p->used; i++) {
            row[i] = x[i * p->x_col];
        }
    } else {
        memset(row, p->x_zero, (size_t)p->used);
    }
}

// `rows` rows of outputs, whose first row of x is in the slot `first`.
EMX_INLINE void emx_plane_row_s8(const emx_plane_s8_t *p, int8_t *ring, int32_t first,
                                 const emx_channel_s8_t *c, int8_t *y, int32_t rows)
{
    const int32_t height = emx_plane_reach_h_s8(p), columns = emx_plane_columns_s8(p);
    (void)rows;
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        int32_t acc = c->b;
        for (int32_t i = 0; i < p->kernel_h; i++) {
            int32_t slot = first + i * p->dilation_h;
            slot -= slot < height ? 0 : height;
            const int8_t *const x = ring + slot * columns + ox * p->stride_w;
            for (int32_t j = 0; j < p->kernel_w; j++) {
                acc += x[j * p->dilation_w] * c->w[4 * (i * p->kernel_w + j)];
            }
        }
        y[ox * p->y_col] = (int8_t)(p->wide ? emx_requantise_wide_s8(acc, c->m, c->k, &p->to)
                                            : emx_requantise_s8(acc, c->m, c->k, &p->to));
    }
}
#endif

#endif
