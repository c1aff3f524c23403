// SPDX-License-Identifier: Apache-2.0
// y[n][oy][ox][c] = max or mean of x[n][iy][ix][c] over the window's taps inside the image
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix.
//
//   x  [batch][in_h][in_w][channels]   y  [batch][out_h][out_w][channels]
//
// The mean divides by `divisor`, or, where that is 0, by the number of taps within pad_limit_h by
// pad_limit_w (the padded image, or the image itself), which may reach beyond the image. A NaN in
// the window makes the maximum NaN. No scratch. Pixel by pixel, channel by channel: reads the
// window of the channel, ky and kx ascending, then writes it.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_POOL2D_H
#define EMX_KERNELS_POOL2D_H
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t divisor;
    int32_t pad_limit_h, pad_limit_w; // taps count from -pad_limit to in + pad_limit
    float lo, hi;
} emx_pool2d_f32_t;

// How many taps of one axis the mean counts.
EMX_INLINE int32_t emx_pool2d_counted(int32_t at, int32_t kernel, int32_t extent, int32_t limit)
{
    return emx_min_s32(at + kernel, extent + limit) - emx_max_s32(at, -limit);
}

EMX_INLINE float emx_pool2d_max_f32(const emx_pool2d_f32_t *p, emx_taps_t ky, emx_taps_t kx,
                                    const float *x)
{
    float best = -INFINITY;
    for (int32_t i = ky.first; i < ky.last; i++) {
        for (int32_t j = kx.first; j < kx.last; j++) {
            const int32_t pixel = i * p->dilation_h * p->in_w + j * p->dilation_w;
            const float v = x[pixel * p->channels];
            best = v > best || v != v ? v : best;
        }
    }
    return best;
}

EMX_INLINE float emx_pool2d_sum_f32(const emx_pool2d_f32_t *p, emx_taps_t ky, emx_taps_t kx,
                                    const float *x)
{
    float sum = 0.0f;
    for (int32_t i = ky.first; i < ky.last; i++) {
        for (int32_t j = kx.first; j < kx.last; j++) {
            sum += x[(i * p->in_w + j) * p->channels];
        }
    }
    return sum;
}

EMX_INLINE void emx_pool2d_f32(const emx_pool2d_f32_t *p, int mean, const float *x, float *y)
{
    for (int32_t at = 0; at < p->batch * p->out_h * p->out_w; at++) {
        const int32_t oy = at / p->out_w % p->out_h;
        const int32_t iy = oy * p->stride_h - p->pad_top;
        const int32_t ix = at % p->out_w * p->stride_w - p->pad_left;
        const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
        const emx_taps_t kx = emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w);
        const int32_t counted = emx_pool2d_counted(iy, p->kernel_h, p->in_h, p->pad_limit_h) *
                                emx_pool2d_counted(ix, p->kernel_w, p->in_w, p->pad_limit_w);
        const float scale = 1.0f / (float)(p->divisor ? p->divisor : counted);
        const int32_t image = at / (p->out_h * p->out_w);
        const float *const corner = x + ((image * p->in_h + iy) * p->in_w + ix) * p->channels;
        for (int32_t c = 0; c < p->channels; c++) {
            const float v = mean ? emx_pool2d_sum_f32(p, ky, kx, corner + c) * scale
                                 : emx_pool2d_max_f32(p, ky, kx, corner + c);
            *y++ = emx_clamp_f32(v, p->lo, p->hi);
        }
    }
}

// The pool of a whole image that arrives row by row: in_h is 1, pad_top the number of the row. y
// accumulates, and is the result after the last.
EMX_INLINE void emx_pool2d_row_f32(const emx_pool2d_f32_t *p, int mean, const float *x, float *y)
{
    const float scale = 1.0f / (float)(p->divisor ? p->divisor : p->kernel_h * p->in_w);
    for (int32_t c = 0; c < p->channels; c++) {
        float v = p->pad_top ? y[c] : mean ? 0.0f : -INFINITY;
        for (int32_t j = 0; j < p->in_w; j++) {
            const float tap = x[j * p->channels + c];
            v = mean ? v + tap : tap > v || tap != tap ? tap : v;
        }
        if (p->pad_top == p->kernel_h - 1) {
            v = emx_clamp_f32(mean ? v * scale : v, p->lo, p->hi);
        }
        y[c] = v;
    }
}

EMX_INLINE void emx_maxpool2d_row_f32(const emx_pool2d_f32_t *p, const float *x, float *y)
{
    emx_pool2d_row_f32(p, 0, x, y);
}

EMX_INLINE void emx_avgpool2d_row_f32(const emx_pool2d_f32_t *p, const float *x, float *y)
{
    emx_pool2d_row_f32(p, 1, x, y);
}

EMX_INLINE void emx_maxpool2d_f32(const emx_pool2d_f32_t *p, const float *x, float *y)
{
    emx_pool2d_f32(p, 0, x, y);
}

EMX_INLINE void emx_avgpool2d_f32(const emx_pool2d_f32_t *p, const float *x, float *y)
{
    emx_pool2d_f32(p, 1, x, y);
}

#endif
