// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution: y[n][oy][ox][c] = clamp(b[c] + sum_{ky,kx} x[n][iy][ix][c] * w[ky][kx][c])
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is 0 outside the image.
//
//   x  [batch][in_h][in_w][channels]        w  [kernel_h][kernel_w][ceil(channels/4)*4], zero-padded
//   b  [channels]                           y  [batch][out_h][out_w][channels]
//
// No scratch. Sums run over ky, kx in ascending order, starting from b. Pixel by pixel, four
// channels at a time: reads the window of these channels, then writes them.
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
    float lo, hi;
} emx_dwconv2d_f32_t;

EMX_INLINE void emx_dwconv2d_pixel_f32(const emx_dwconv2d_f32_t *p, emx_taps_t ky, emx_taps_t kx,
                                       const float *x, const float *w, const float *b, float *y)
{
    const int32_t column = (p->channels + 3) / 4 * 4;
    for (int32_t c = 0; c < p->channels; c += 4) {
        const int32_t n = emx_min_s32(4, p->channels - c);
        float acc[4];
        EMX_UNROLL
        for (int o = 0; o < 4; o++) {
            acc[o] = o < n ? b[c + o] : 0.0f;
        }
        for (int32_t i = ky.first; i < ky.last; i++) {
            for (int32_t j = kx.first; j < kx.last; j++) {
                const int32_t pixel = i * p->dilation_h * p->in_w + j * p->dilation_w;
                const float *const tap = x + (pixel * p->channels + c);
                const float *const weight = w + ((i * p->kernel_w + j) * column + c);
                EMX_UNROLL
                for (int o = 0; o < 4; o++) {
                    acc[o] += o < n ? tap[o] * weight[o] : 0.0f;
                }
            }
        }
        emx_store_4_f32(y + c, acc, NULL, p->lo, p->hi, n);
    }
}

EMX_INLINE void emx_dwconv2d_f32(const emx_dwconv2d_f32_t *p, const float *x, const float *w,
                                 const float *b, float *y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            const int32_t iy = oy * p->stride_h - p->pad_top;
            const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                const int32_t ix = ox * p->stride_w - p->pad_left;
                const emx_taps_t kx = emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w);
                const float *const corner = x + (iy * p->in_w + ix) * p->channels;
                emx_dwconv2d_pixel_f32(p, ky, kx, corner, w, b, y);
                y += p->channels;
            }
        }
        x += p->in_h * p->in_w * p->channels;
    }
}

#endif
