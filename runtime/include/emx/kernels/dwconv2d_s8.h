// SPDX-License-Identifier: Apache-2.0
// Depthwise: y[n][oy][ox][c] = scale(b[c] + sum_{ky,kx} x[n][iy][ix][c] * w[c][ky][kx])
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is x_zero outside the image;
//   scale() of emx/quant.h
//
//   x  [batch][in_h][in_w][channels] at steps x_row, x_col, x_chan: any order of the axes
//   w  [ceil(channels/4)][kernel_h*kernel_w][4], zero-padded; if `sixteen`, [kernel_h*kernel_w][16]
//      for every sixteen channels before
//   q  [ceil(channels/4)][words], see emx/quant.h and emx/dot_s8.h
//   y  [batch][out_h][out_w][channels] at steps y_row, y_col, 1
//
// emx_dwconv2d_s8: image by image, channel by channel: stages the rows of the channel that the next
// row of outputs needs in scratch, then writes these outputs; on Helium, where `quick`, those of
// two rows at once. Rows and columns may be the model's columns and rows, whatever is faster. How
// much scratch: arch/*_plane_s8.h and python/emx/depthwise_s8.py.
//
// emx_dwconv2d_direct_s8: x_chan is 1; scratch for a pointer to each tap, and `channels` bytes.
// Pixel by pixel, four channels at a time: reads the window of these channels, then writes them.
//
// y may lie over x if it starts far enough before x, or, where no output is written before its
// channel has been read there, exactly at x: this follows from the order of reads and writes
// (python/emx/depthwise_s8.py, proved by tests/test_dw_s8.py).
#ifndef EMX_KERNELS_DWCONV2D_S8_H
#define EMX_KERNELS_DWCONV2D_S8_H
#include <emx/arch.h>
#include <emx/dot_s8.h>
#include <emx/plane_s8.h>

typedef struct {
    int32_t batch, in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t x_row, x_col, x_chan;
    int32_t y_row, y_col;
    int32_t tail;    // channels % 4
    int32_t sixteen; // 1: see w; only emx_dwconv2d_direct_s8 for Helium
    int32_t words;   // of a block's parameters: 12, or for emx_dwconv2d_s8 also 7
    int32_t quick;   // see emx/plane_s8.h
    int32_t folded;  // see there
    int32_t wide;    // 1: sums are scaled in 64 bits
    int32_t x_zero, zero, lo, hi;
} emx_dwconv2d_s8_t;

// The parameters of a block, whose channel `at` comes next.
EMX_INLINE const int32_t *emx_dwconv2d_params_s8(const emx_dwconv2d_s8_t *p, const int32_t *q,
                                                 int32_t at, int32_t *unpacked)
{
    if (p->words == EMX_BLOCK_PARAMS) {
        return q;
    }
    if (at == 0) {
        emx_unpack_block_s8(q, emx_result_start(p->zero), unpacked);
    }
    return unpacked;
}

EMX_INLINE void emx_dwconv2d_s8(const emx_dwconv2d_s8_t *p, const int8_t *x, const int8_t *w,
                                const int32_t *q, void *scratch, int8_t *y)
{
    const int32_t reach = (p->kernel_w - 1) * p->dilation_w + 1;
    const int32_t columns = (p->out_w - 1) * p->stride_w + reach;
    const int32_t used = emx_max_s32(emx_min_s32(p->in_w, columns - p->pad_left), 0);
    const emx_plane_s8_t plane = {
        p->in_h,     p->out_h,      p->out_w,       p->kernel_h, p->kernel_w, p->stride_h,
        p->stride_w, p->dilation_h, p->dilation_w,  p->pad_top,  p->pad_left, used,
        p->x_row,    p->x_col,      p->y_row,       p->y_col,    p->x_zero,   p->quick,
        p->folded,   p->wide,       {p->lo, p->hi},
    };
    int8_t *const memory = (int8_t *)scratch;
    int32_t unpacked[EMX_BLOCK_PARAMS];
    emx_plane_state_s8_t state;
    emx_plane_prepare_s8(&plane, &state, memory);
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t i = 0; i < p->channels; i++) {
            const int32_t block = i / EMX_BLOCK, at = i % EMX_BLOCK;
            const int32_t *const of = emx_dwconv2d_params_s8(p, q + block * p->words, at, unpacked);
            const emx_channel_s8_t c = {
                w + (block * p->kernel_h * p->kernel_w * EMX_BLOCK + at),
                of[EMX_BLOCK_BIAS + at],
                of[EMX_BLOCK_M + 2 * at],
                of[EMX_BLOCK_START + 2 * at],
            };
            emx_plane_channel_s8(&plane, p->quick, &state, &c, x + i * p->x_chan, memory, y + i);
        }
        x += p->in_h * p->in_w * p->channels;
        y += p->out_h * p->out_w * p->channels;
    }
}

// All channels of a pixel. The window's corner is at (iy, ix) of x; where a tap is beyond the
// image, it is in `zeros`.
EMX_INLINE void emx_dwconv2d_pixel_s8(const emx_dwconv2d_s8_t *p, const int8_t *x, int32_t iy,
                                      int32_t ix, const int8_t *zeros, const int8_t **taps,
                                      const int8_t *w, const int32_t *q, int8_t *y)
{
    const emx_taps_s8_t of = {
        p->kernel_h * p->kernel_w, p->channels, p->tail, p->sixteen, p->wide, {p->lo, p->hi}};
    const int8_t **tap = taps;
    const int32_t bottom = iy + (p->kernel_h - 1) * p->dilation_h;
    const int32_t right = ix + (p->kernel_w - 1) * p->dilation_w;
    const bool whole = iy >= 0 && ix >= 0 && bottom < p->in_h && right < p->in_w;
    EMX_ROLLED
    for (int32_t row = iy; row <= bottom; row += p->dilation_h) {
        const bool outside = row < 0 || row >= p->in_h;
        const int8_t *at = x + (row * p->x_row + ix * p->x_col);
        for (int32_t col = ix; col <= right; col += p->dilation_w) {
            *tap++ = whole || !(outside || col < 0 || col >= p->in_w) ? at : zeros;
            at += p->dilation_w * p->x_col;
        }
    }
    emx_blocks_of_taps_s8(&of, taps, w, q, y);
}

EMX_INLINE void emx_dwconv2d_direct_s8(const emx_dwconv2d_s8_t *p, const int8_t *x, const int8_t *w,
                                       const int32_t *q, void *scratch, int8_t *y)
{
    const int8_t **const taps = (const int8_t **)scratch;
    int8_t *const zeros = (int8_t *)(taps + p->kernel_h * p->kernel_w);
    memset(zeros, p->x_zero, (size_t)p->channels);
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            const int32_t iy = oy * p->stride_h - p->pad_top;
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                emx_dwconv2d_pixel_s8(p, x, iy, ox * p->stride_w - p->pad_left, zeros, taps, w, q,
                                      y + (oy * p->y_row + ox * p->y_col));
            }
        }
        x += p->in_h * p->in_w * p->channels;
        y += p->out_h * p->out_w * p->channels;
    }
}

#endif
