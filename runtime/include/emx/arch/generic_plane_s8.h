// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of depthwise layers: the rows of one channel lie in a ring in scratch,
// wide enough for the padding, and outputs are computed from there. So a channel of x may be
// overwritten row by row. Results are the same to the bit everywhere.
//
// python/emx/depthwise_s8.py knows how much scratch an instruction set needs, and how many rows of
// outputs it computes at once.
#ifndef EMX_ARCH_GENERIC_PLANE_S8_H
#define EMX_ARCH_GENERIC_PLANE_S8_H
#include <emx/plane_s8.h>

#ifndef EMX_HAVE_plane_s8
// Rows of outputs that are computed at once, and rows of the ring.
EMX_INLINE int32_t emx_plane_rows_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 1;
}

EMX_INLINE int32_t emx_plane_slots_s8(const emx_plane_s8_t *p) { return emx_plane_reach_h_s8(p); }

// What lies beyond the image to the left and right.
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

// The next row goes to the slot `slot`: x, or what lies beyond the image.
EMX_INLINE void emx_plane_stage_s8(const emx_plane_s8_t *p, int8_t *ring, int32_t slot, bool inside,
                                   const int8_t *x)
{
    int8_t *const row = ring + slot * emx_plane_columns_s8(p) + p->pad_left;
    if (inside) {
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
        y[ox * p->y_col] = (int8_t)emx_plane_result_s8(p, c, acc);
    }
}
#endif

#ifndef EMX_HAVE_plane_quick_s8
typedef int8_t emx_plane_state_s8_t;
#endif

// Before all channels. `state` is what a quicker way remembers between them.
EMX_INLINE void emx_plane_prepare_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *state,
                                     int8_t *scratch)
{
    emx_plane_start_s8(p, scratch);
#ifdef EMX_HAVE_plane_quick_s8
    if (p->quick) {
        emx_plane_start_quick_s8(p, state);
    }
#else
    (void)state;
#endif
}

// One channel of an image: stages the rows that the next rows of y need, then writes these. `quick`
// is p->quick as a constant, which compilers do not take *p for when they have passed it on.
EMX_INLINE void emx_plane_channel_s8(const emx_plane_s8_t *p, bool quick,
                                     emx_plane_state_s8_t *state, const emx_channel_s8_t *c,
                                     const int8_t *x, int8_t *scratch, int8_t *y)
{
#ifdef EMX_HAVE_plane_quick_s8
    if (quick) {
        emx_plane_quick_s8(p, state, c, x, scratch, y);
        return;
    }
#else
    (void)quick;
    (void)state;
#endif
    const int32_t rows = emx_plane_rows_s8(p), slots = emx_plane_slots_s8(p);
    const int32_t step = rows * p->stride_h, reach = emx_plane_reach_h_s8(p);
    int32_t iy = -p->pad_top, slot = 0, first = 0; // the next row, where it goes; where t is
    emx_plane_weights_s8(p, c, scratch);
    for (int32_t oy = 0, t = iy; oy < p->out_h; oy += rows, t += step) {
        const int32_t wanted = emx_min_s32(rows, p->out_h - oy);
        if (iy < t) { // the stride is larger than the window
            iy = t;
            slot = first;
        }
        for (; iy < t + (wanted - 1) * p->stride_h + reach; iy++) {
            const bool inside = iy >= 0 && iy < p->in_h;
            emx_plane_stage_s8(p, scratch, slot, inside, x + iy * p->x_row);
            slot = slot + 1 < slots ? slot + 1 : 0;
        }
        emx_plane_row_s8(p, scratch, first, c, y, wanted);
        first += step % slots;
        first -= first < slots ? 0 : slots;
        y += rows * p->y_row;
    }
}

#endif
