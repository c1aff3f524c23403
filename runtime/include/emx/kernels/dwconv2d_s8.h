// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution: y[n][oy][ox][c] = requantise(b[c] + sum_{ky,kx} x[n][iy][ix][c]*w[c][ky][kx])
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is x_zero outside the image;
//   requantise() of emx/quant.h
//
//   x  [batch][in_h][in_w][channels] at steps x_row, x_col, x_chan: any order of the axes
//   w  [ceil(channels/4)][kernel_h*kernel_w][4], zero-padded
//   q  [ceil(channels/4)][12], see emx/quant.h
//   y  [batch][out_h][out_w][channels] at steps y_row, y_col, 1
//
// emx_dwconv2d_s8: image by image, channel by channel: stages the rows of the channel that the next
// row of outputs needs in scratch (on Helium of the next two rows, see arch/mve_plane_s8.h), then
// writes these outputs. Rows and columns may be the model's columns and rows: whatever is faster.
//
// emx_dwconv2d_direct_s8: no scratch, x_chan is 1. Pixel by pixel, four channels at a time: reads
// the window of these channels, then writes them.
//
// y may lie over x if it starts far enough before x, or, where no output is written before its
// channel has been read there, exactly at x: this follows from the order of reads and writes
// (python/emx/depthwise_s8.py, proved by tests/test_dw_s8.py).
#ifndef EMX_KERNELS_DWCONV2D_S8_H
#define EMX_KERNELS_DWCONV2D_S8_H
#include <emx/arch.h>
#include <emx/plane_s8.h>
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t x_row, x_col, x_chan;
    int32_t y_row, y_col;
    int32_t folded; // 1: no weight shifted left as its channel's sum leaves 16 bits
    int32_t wide;   // 1: requantise in 64 bits
    int32_t x_zero, zero, lo, hi;
} emx_dwconv2d_s8_t;

// One channel of one image.
EMX_INLINE void emx_dwconv2d_channel_s8(const emx_dwconv2d_s8_t *p, const emx_plane_s8_t *plane,
                                        const int8_t *x, const emx_channel_s8_t *c, int8_t *scratch,
                                        int8_t *y)
{
    const int32_t rows = emx_plane_rows_s8(plane), slots = emx_plane_slots_s8(plane);
    const int32_t step = rows * p->stride_h, reach = emx_plane_reach_h_s8(plane);
    int32_t staged = 0, slot = 0, first = 0; // rows in the ring; where the next goes, and that of t
    emx_plane_weights_s8(plane, c, scratch);
    for (int32_t oy = 0, t = 0; oy < p->out_h; oy += rows, t += step) {
        const int32_t wanted = emx_min_s32(rows, p->out_h - oy);
        const int32_t end = t + (wanted - 1) * p->stride_h + reach;
        if (p->stride_h > reach && staged < t) {
            staged = t;
            slot = first;
        }
        for (; staged < end; staged++) {
            const int32_t iy = staged - p->pad_top;
            const bool inside = iy >= 0 && iy < p->in_h;
            emx_plane_stage_s8(plane, scratch, slot, inside ? x + iy * p->x_row : NULL);
            slot = slot + 1 < slots ? slot + 1 : 0;
        }
        emx_plane_row_s8(plane, scratch, first, c, y, wanted);
        first += step % slots;
        first -= first < slots ? 0 : slots;
        y += rows * p->y_row;
    }
}

EMX_INLINE void emx_dwconv2d_s8(const emx_dwconv2d_s8_t *p, const int8_t *x, const int8_t *w,
                                const int32_t *q, void *scratch, int8_t *y)
{
    const int32_t reach = (p->kernel_w - 1) * p->dilation_w + 1;
    const int32_t columns = (p->out_w - 1) * p->stride_w + reach;
    const emx_plane_s8_t plane = {
        p->kernel_h,   p->kernel_w,
        p->stride_h,   p->stride_w,
        p->dilation_h, p->dilation_w,
        p->pad_left,   emx_max_s32(emx_min_s32(p->in_w, columns - p->pad_left), 0),
        p->out_w,      p->x_col,
        p->y_col,      p->y_row,
        p->x_zero,     p->folded,
        p->wide,       {p->zero, p->lo, p->hi},
    };
    int8_t *const memory = (int8_t *)scratch;
    emx_plane_start_s8(&plane, memory);
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t i = 0; i < p->channels; i++) {
            const int32_t at = i % EMX_BLOCK;
            const int32_t *const of = q + i / EMX_BLOCK * EMX_BLOCK_PARAMS;
            const emx_channel_s8_t c = {
                w + (i / EMX_BLOCK * p->kernel_h * p->kernel_w * EMX_BLOCK + at),
                of[EMX_BLOCK_BIAS + at],
                of[EMX_BLOCK_M + 2 * at],
                of[EMX_BLOCK_SHIFT + 2 * at],
            };
            emx_dwconv2d_channel_s8(p, &plane, x + i * p->x_chan, &c, memory, y + i);
        }
        x += p->in_h * p->in_w * p->channels;
        y += p->out_h * p->out_w * p->channels;
    }
}

// A pixel of emx_dwconv2d_direct_s8: the window's corner in x, and the taps inside the image.
typedef struct {
    const int8_t *x;
    emx_taps_t ky, kx;
} emx_dwconv2d_at_s8_t;

// acc[c] += the products of the window of n channels from c0 on. Taps beyond the image count: the
// bias is what all of them need.
EMX_INLINE void emx_dwconv2d_window_s8(const emx_dwconv2d_s8_t *p, const emx_dwconv2d_at_s8_t *at,
                                       int32_t c0, const int8_t *w, int32_t n, int32_t acc[4])
{
    const int8_t v = (int8_t)p->x_zero;
    const int8_t zeros[EMX_BLOCK] = {v, v, v, v};
    const int32_t next = p->dilation_w * p->x_col;
    const bool whole = at->ky.first == 0 && at->ky.last == p->kernel_h && at->kx.first == 0 &&
                       at->kx.last == p->kernel_w;
    for (int32_t i = 0; i < p->kernel_h; i++) {
        const int8_t *const row = at->x + i * p->dilation_h * p->x_row + c0;
        const int8_t *const of = w + i * p->kernel_w * EMX_BLOCK;
        if (whole) {
            emx_mac_4_s8(acc, row, next, of, p->kernel_w, n);
        } else {
            const bool inside = i >= at->ky.first && i < at->ky.last;
            for (int32_t j = 0; j < p->kernel_w; j++) {
                const bool tap = inside && j >= at->kx.first && j < at->kx.last;
                emx_mac_4_s8(acc, tap ? row + j * next : zeros, 0, of + j * EMX_BLOCK, 1, n);
            }
        }
    }
}

// n channels of a pixel, from c0 on; w and q are those of their block.
EMX_INLINE void emx_dwconv2d_block_s8(const emx_dwconv2d_s8_t *p, const emx_dwconv2d_at_s8_t *at,
                                      int32_t c0, const int8_t *w, const int32_t *q, int32_t n,
                                      int8_t *y)
{
    const emx_result_s8_t to = {p->zero, p->lo, p->hi};
    int32_t acc[EMX_BLOCK];
    EMX_UNROLL
    for (int c = 0; c < EMX_BLOCK; c++) {
        acc[c] = q[EMX_BLOCK_BIAS + c];
    }
    emx_dwconv2d_window_s8(p, at, c0, w, n, acc);
    if (p->wide) {
        for (int32_t c = 0; c < n; c++) {
            y[c0 + c] = (int8_t)emx_requantise_wide_s8(acc[c], q[EMX_BLOCK_M + 2 * c],
                                                       q[EMX_BLOCK_SHIFT + 2 * c], &to);
        }
    } else {
        emx_requantise_4_s8(y + c0, acc, q, &to, n);
    }
}

EMX_INLINE void emx_dwconv2d_pixel_s8(const emx_dwconv2d_s8_t *p, const emx_dwconv2d_at_s8_t *at,
                                      const int8_t *w, const int32_t *q, int8_t *y)
{
    int32_t c = 0;
    for (; c + EMX_BLOCK <= p->channels; c += EMX_BLOCK) {
        emx_dwconv2d_block_s8(p, at, c, w, q, EMX_BLOCK, y);
        w += p->kernel_h * p->kernel_w * EMX_BLOCK;
        q += EMX_BLOCK_PARAMS;
    }
    if (c < p->channels) {
        emx_dwconv2d_block_s8(p, at, c, w, q, p->channels - c, y);
    }
}

EMX_INLINE void emx_dwconv2d_direct_s8(const emx_dwconv2d_s8_t *p, const int8_t *x, const int8_t *w,
                                       const int32_t *q, int8_t *y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            const int32_t iy = oy * p->stride_h - p->pad_top;
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                const int32_t ix = ox * p->stride_w - p->pad_left;
                const emx_dwconv2d_at_s8_t at = {
                    x + (iy * p->x_row + ix * p->x_col),
                    emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h),
                    emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w),
                };
                emx_dwconv2d_pixel_s8(p, &at, w, q, y + (oy * p->y_row + ox * p->y_col));
            }
        }
        x += p->in_h * p->in_w * p->channels;
        y += p->out_h * p->out_w * p->channels;
    }
}

#endif
