// SPDX-License-Identifier: Apache-2.0
// y[n][oy][ox][o] = clamp(b[o] + sum_{ky,kx,c} x[n][iy][ix][g*C + c] * w[o][ky][kx][c] + skip)
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is 0 outside the image;
//   C = in_c / groups, g = o / (out_c / groups).
//
//   x     [batch][in_h][in_w][in_c] in elements of x_row, x_col, x_chan (so also channels first)
//   w     [groups][ceil(out_c/groups / 4)][kernel_h][kernel_w][C][4], zero-padded, 16-byte aligned
//   b     [out_c]
//   skip  [batch][out_h][out_w][out_c], only emx_conv2d_add_f32
//   y     [batch][out_h][out_w][out_c]
//
// No scratch. Sums run over ky, kx, c in ascending order, starting from b. Tiles of up to four
// pixels of a row by four output channels, row by row: a tile reads x, then, pixel
// by pixel, reads skip and writes y, so y may be skip.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_CONV2D_H
#define EMX_KERNELS_CONV2D_H
#include <emx/arch.h>
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t groups;
    int32_t tail; // out_c / groups % 4
    int32_t x_row, x_col, x_chan;
    int32_t contiguous; // 1: the taps of a row of the window are one run of memory
    float lo, hi;
} emx_conv2d_f32_t;

// `pixels` (1 or 4) outputs of a row from ox on, by `lanes` <= 4 output channels. x and y are those
// of the first pixel and channel; x is the window's corner, maybe outside the image.
EMX_INLINE void emx_conv2d_tile_f32(const emx_conv2d_f32_t *p, int32_t pixels, emx_taps_t ky,
                                    emx_taps_t kx, const float *x, const float *w, const float *b,
                                    const float *skip, float *y, int32_t lanes)
{
    const int32_t depth = p->in_c / p->groups;
    float acc[16];
    EMX_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = i < 4 * pixels && (i & 3) < lanes ? b[i & 3] : 0.0f;
    }
    const int32_t taps = kx.last - kx.first;
    for (int32_t i = ky.first; i < ky.last; i++) {
        for (int32_t j = 0; j < (p->contiguous ? emx_min_s32(taps, 1) : taps); j++) {
            const int32_t k = kx.first + j;
            const float *const tap =
                x + (i * p->dilation_h * p->x_row + k * p->dilation_w * p->x_col);
            const float *const column = w + (i * p->kernel_w + k) * depth * 4;
            const int32_t n = p->contiguous ? taps * depth : depth;
            if (pixels == 4) {
                emx_mac_4x4_f32(acc, tap, p->stride_w * p->x_col, p->x_chan, column, n);
            } else {
                emx_mac_1x4_f32(acc, tap, p->x_chan, column, n);
            }
        }
    }
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        if (i < pixels) {
            const float *const add = skip ? skip + i * p->out_c : NULL;
            emx_store_4_f32(y + i * p->out_c, acc + 4 * i, add, p->lo, p->hi, lanes);
        }
    }
}

// All output channels of `pixels` outputs of a row, in tiles of four channels.
EMX_INLINE void emx_conv2d_pixels_f32(const emx_conv2d_f32_t *p, int32_t pixels, emx_taps_t ky,
                                      emx_taps_t kx, const float *x, const float *w, const float *b,
                                      const float *skip, float *y)
{
    const int32_t depth = p->in_c / p->groups;
    const int32_t whole = p->out_c / p->groups - p->tail;
    const int32_t column = p->kernel_h * p->kernel_w * depth * 4;
    for (int32_t g = 0; g < p->groups; g++) {
        for (int32_t o = 0; o < whole; o += 4) {
            emx_conv2d_tile_f32(p, pixels, ky, kx, x, w, b, skip, y, 4);
            w += column;
            b += 4;
            y += 4;
            skip = skip ? skip + 4 : NULL;
        }
        if (p->tail) {
            emx_conv2d_tile_f32(p, pixels, ky, kx, x, w, b, skip, y, p->tail);
            w += column;
            b += p->tail;
            y += p->tail;
            skip = skip ? skip + p->tail : NULL;
        }
        x += depth * p->x_chan;
    }
}

EMX_INLINE void emx_conv2d_row_f32(const emx_conv2d_f32_t *p, int32_t oy, const float *x,
                                   const float *w, const float *b, const float *skip, float *y)
{
    const int32_t iy = oy * p->stride_h - p->pad_top;
    const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
    const emx_taps_t all = {0, p->kernel_w};
    const int32_t reach = (p->kernel_w - 1) * p->dilation_w;
    for (int32_t ox = 0; ox < p->out_w;) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const float *const corner = x + (iy * p->x_row + ix * p->x_col);
        const int32_t at = ox * p->out_c;
        const float *const add = skip ? skip + at : NULL;
        const int32_t last = ix + 3 * p->stride_w + reach; // rightmost tap of four pixels
        if (ox + 4 <= p->out_w && ix >= 0 && last < p->in_w) {
            emx_conv2d_pixels_f32(p, 4, ky, all, corner, w, b, add, y + at);
            ox += 4;
        } else {
            const emx_taps_t kx = emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w);
            emx_conv2d_pixels_f32(p, 1, ky, kx, corner, w, b, add, y + at);
            ox += 1;
        }
    }
}

EMX_INLINE void emx_conv2d_add_f32(const emx_conv2d_f32_t *p, const float *x, const float *skip,
                                   const float *w, const float *b, float *y)
{
    const int32_t row = p->out_w * p->out_c;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            emx_conv2d_row_f32(p, oy, x, w, b, skip, y);
            y += row;
            skip = skip ? skip + row : NULL;
        }
        x += p->in_h * p->in_w * p->in_c;
    }
}

EMX_INLINE void emx_conv2d_f32(const emx_conv2d_f32_t *p, const float *x, const float *w,
                               const float *b, float *y)
{
    emx_conv2d_add_f32(p, x, NULL, w, b, y);
}

#endif
