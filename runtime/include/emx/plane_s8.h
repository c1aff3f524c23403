// SPDX-License-Identifier: Apache-2.0
// A depthwise layer channel by channel: what its micro-kernels (arch/*_plane_s8.h) are told.
#ifndef EMX_PLANE_S8_H
#define EMX_PLANE_S8_H
#include <emx/emx.h>
#include <emx/quant.h>

// One layer. Rows and columns are those of the kernel, which may be the image's columns and rows.
typedef struct {
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_left;
    int32_t used; // pixels of a row that taps touch
    int32_t out_w;
    int32_t x_col, y_col, y_row; // bytes from a pixel to the next, from a row of y to the next
    int32_t x_zero;
    int32_t folded; // 1: weights may be shifted to the left by k and stay below 2^15
    int32_t wide;   // 1: requantise in 64 bits
    emx_result_s8_t to;
} emx_plane_s8_t;

// One channel: its weights w[kernel_h * kernel_w], four bytes apart, and its parameters.
typedef struct {
    const int8_t *w;
    int32_t b, m, k;
} emx_channel_s8_t;

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

#endif
