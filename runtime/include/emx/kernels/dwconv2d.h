// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution: y[n][oy][ox][c] = clamp(b[c] + sum_{ky,kx} x[n][iy][ix][c] * w[ky][kx][c])
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is 0 outside the image.
//
//   x  [batch][in_h][in_w][channels]
//   w  [ceil(channels/L)][kernel_h][kernel_w][L], zero-padded
//   b  [ceil(channels/L)*L], zero-padded
//   y  [batch][out_h][out_w][channels]
//
// L is EMX_LANES. No scratch. Sums run over ky, kx in ascending order, starting from b. Pixel by
// pixel, L channels at a time: reads the window of these channels, then writes them.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_DWCONV2D_H
#define EMX_KERNELS_DWCONV2D_H
#include <emx/arch.h>
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t tail; // channels % L
    float lo, hi;
} emx_dwconv2d_f32_t;

// `lanes` channels of one pixel; x, w, b and y are those of the first channel.
EMX_INLINE void emx_dwconv2d_tile_f32(const emx_dwconv2d_f32_t *p, emx_taps_t ky, emx_taps_t kx,
                                      const float *x, const float *w, const float *b, float *y,
                                      int lanes)
{
    EMX_ALIGNED(64) float sum[EMX_LANES];
    emx_start_f32(sum, b, lanes);
    for (int32_t i = ky.first; i < ky.last; i++) {
        EMX_UNROLL_4
        for (int32_t j = kx.first; j < kx.last; j++) {
            const int32_t pixel = i * p->dilation_h * p->in_w + j * p->dilation_w;
            emx_mac_lanes_f32(sum, x + pixel * p->channels, w + (i * p->kernel_w + j) * EMX_LANES,
                              lanes);
        }
    }
    emx_store_f32(y, sum, NULL, p->lo, p->hi, lanes);
}

EMX_INLINE void emx_dwconv2d_pixel_f32(const emx_dwconv2d_f32_t *p, emx_taps_t ky, emx_taps_t kx,
                                       const float *x, const float *w, const float *b, float *y)
{
    const int32_t whole = p->channels - p->tail, taps = p->kernel_h * p->kernel_w;
    for (int32_t c = 0; c < whole; c += EMX_LANES) {
        emx_dwconv2d_tile_f32(p, ky, kx, x + c, w + c * taps, b + c, y + c, EMX_LANES);
    }
    if (p->tail) {
        emx_dwconv2d_tile_f32(p, ky, kx, x + whole, w + whole * taps, b + whole, y + whole,
                              p->tail);
    }
}

EMX_INLINE void emx_dwconv2d_row_f32(const emx_dwconv2d_f32_t *p, int32_t oy, const float *x,
                                     const float *w, const float *b, float *y)
{
    const int32_t iy = oy * p->stride_h - p->pad_top;
    const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
    const emx_taps_t all = {0, p->kernel_w};
    const int32_t reach = (p->kernel_w - 1) * p->dilation_w;
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const float *const corner = x + (iy * p->in_w + ix) * p->channels;
        if (ix >= 0 && ix + reach < p->in_w) {
            emx_dwconv2d_pixel_f32(p, ky, all, corner, w, b, y);
        } else {
            const emx_taps_t kx = emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w);
            emx_dwconv2d_pixel_f32(p, ky, kx, corner, w, b, y);
        }
        y += p->channels;
    }
}

EMX_INLINE void emx_dwconv2d_f32(const emx_dwconv2d_f32_t *p, const float *x, const float *w,
                                 const float *b, float *y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            emx_dwconv2d_row_f32(p, oy, x, w, b, y);
            y += p->out_w * p->channels;
        }
        x += p->in_h * p->in_w * p->channels;
    }
}

#endif
