// SPDX-License-Identifier: Apache-2.0
// What the micro-kernels of depthwise layers are told.
#ifndef EMX_PLANE_S8_H
#define EMX_PLANE_S8_H
#include <emx/emx.h>
#include <emx/quant.h>

// A layer channel by channel (arch/*_plane_s8.h). Rows and columns are those of the kernel, which
// may be the image's columns and rows; steps are bytes.
typedef struct {
    int32_t in_h, out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t used; // pixels of a row that taps touch
    int32_t x_row, x_col, y_row, y_col;
    int32_t x_zero;
    int32_t quick;  // 1: 3x3 taps of dilation 1, strides 1 or 2, folded, results of all of int8_t
    int32_t folded; // 1: left shifts are up to 8, and weights fit 16 bits after them
    int32_t wide;   // 1: sums are scaled in 64 bits
    emx_bounds_s8_t in;
} emx_plane_s8_t;

// One channel: its weights w[kernel_h * kernel_w], four bytes apart, and its parameters.
typedef struct {
    const int8_t *w;
    int32_t b, m, start;
} emx_channel_s8_t;

// A pixel at a time (arch/*_lanes_s8.h): the taps of its window, and all channels.
typedef struct {
    int32_t taps, channels;
    int32_t tail;    // channels % 4
    int32_t sixteen; // 1: weights of sixteen channels lie beside each other
    int32_t wide;
    emx_bounds_s8_t in;
} emx_taps_s8_t;

EMX_INLINE int32_t emx_plane_reach_h_s8(const emx_plane_s8_t *p)
{
    return (p->kernel_h - 1) * p->dilation_h + 1;
}

EMX_INLINE int32_t emx_plane_reach_w_s8(const emx_plane_s8_t *p)
{
    return (p->kernel_w - 1) * p->dilation_w + 1;
}

// Columns of the padded image that taps touch.
EMX_INLINE int32_t emx_plane_columns_s8(const emx_plane_s8_t *p)
{
    return (p->out_w - 1) * p->stride_w + emx_plane_reach_w_s8(p);
}

// The result of a sum.
EMX_INLINE int32_t emx_plane_result_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                       int32_t acc)
{
    return p->wide ? emx_scale_wide_s8((int64_t)acc * c->m, c->m, c->start, &p->in)
                   : emx_scale_s8(acc, c->m, c->start, &p->in);
}

#endif
