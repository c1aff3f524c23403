// SPDX-License-Identifier: Apache-2.0
// Convolutions and linear layers whose weights are narrower than 8 bits, or than their image.
//
//   y[n][oy][ox][o] = result(b[o] + sum_s m[s][o] * sum_{k of segment s} x[k] * w[o][k])
//
//   k runs over the window, ky, kx, c in ascending order; x is x_zero outside the image. A segment
//   is `segment` of its inputs in a row. Outputs and inputs come in parts: of a group, or, where
//   `each` output has a channel of its own (depthwise), of four.
//
//   size  of an element of x and y    sums of a segment    result(v)
//   1, 2  int8_t, int16_t             int32_t, no bound    clamp((v + 2^(shift-1) >> shift) + zero)
//   4     float                       float                clamp(v)
//
//   x     [batch][in_h][in_w][in_c] in elements of x_row, x_col, x_chan (so also channels first)
//   w     [parts][blocks][depth][4] of `bits` bits, the lower four first; depth is the taps times
//         the inputs of an output, a block four outputs of a part
//   q     [parts][blocks] of int64_t b[4], int32_t shift[4], int32_t m[segments][4], or of
//         float b[4], float m[segments][4]
//   y     [batch][out_h][out_w][out_c]
//
// emx_conv2d_mixed has scratch for the window of a part, as elements of x. Pixel by pixel, part by
// part, it reads the window, then writes the outputs. emx_linear_mixed, of 1x1 windows, strides and
// parts, has none: block by block of a pixel it reads all inputs, then writes the outputs.
#ifndef EMX_KERNELS_CONV2D_MIXED_H
#define EMX_KERNELS_CONV2D_MIXED_H
#include <emx/quant.h>
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t x_row, x_col, x_chan;
    int32_t part_in, part_out; // channels of a part; the last one may have fewer
    int32_t each;              // 1: depthwise
    int32_t depth;             // weights of an output
    int32_t segment, segments;
    int32_t size, bits;
    int32_t x_zero, zero;
    float lo, hi;
} emx_conv2d_mixed_t;

// The weights of four outputs, and one of them.
EMX_INLINE uint32_t emx_mixed_weights(int bits, const uint8_t *w, int32_t k)
{
    uint32_t v = 0;
    memcpy(&v, w + k * (bits / 2), bits == 8 ? 4 : 2);
    return v;
}

EMX_INLINE int32_t emx_mixed_weight(int bits, uint32_t weights, int o)
{
    return (int32_t)(weights << (32 - bits * (o + 1))) >> (32 - bits);
}

// Four outputs of integers; n of them are stored.
EMX_INLINE void emx_mixed_block_int(const emx_conv2d_mixed_t *p, const void *x, const uint8_t *w,
                                    const int32_t *q, int32_t n, void *y)
{
    const int32_t *const shift = q + 2 * EMX_BLOCK, *m = shift + EMX_BLOCK;
    int64_t total[EMX_BLOCK];
    memcpy(total, q, sizeof total);
    for (int32_t k = 0; k < p->depth; m += EMX_BLOCK) {
        int32_t sum[EMX_BLOCK] = {0, 0, 0, 0};
        for (const int32_t end = emx_min_s32(k + p->segment, p->depth); k < end; k++) {
            const uint32_t four = emx_mixed_weights(p->bits, w, k);
            EMX_UNROLL
            for (int o = 0; o < EMX_BLOCK; o++) {
                const int32_t at = p->each ? k * EMX_BLOCK + o : k;
                const int32_t v = p->size == 1 ? ((const int8_t *)x)[at] : ((const int16_t *)x)[at];
                sum[o] += v * emx_mixed_weight(p->bits, four, o);
            }
        }
        EMX_UNROLL
        for (int o = 0; o < EMX_BLOCK; o++) {
            total[o] += (int64_t)sum[o] * m[o];
        }
    }
    const emx_result_s8_t to = {p->zero, (int32_t)p->lo, (int32_t)p->hi};
    for (int32_t o = 0; o < n; o++) {
        const int32_t v = emx_round_wide_s8(total[o], shift[o], &to);
        if (p->size == 1) {
            ((int8_t *)y)[o] = (int8_t)v;
        } else {
            ((int16_t *)y)[o] = (int16_t)v;
        }
    }
}

// The same of floats.
EMX_INLINE void emx_mixed_block_f32(const emx_conv2d_mixed_t *p, const float *x, const uint8_t *w,
                                    const float *q, int32_t n, float *y)
{
    const float *m = q + EMX_BLOCK;
    float total[EMX_BLOCK];
    memcpy(total, q, sizeof total);
    for (int32_t k = 0; k < p->depth; m += EMX_BLOCK) {
        float sum[EMX_BLOCK] = {0, 0, 0, 0};
        for (const int32_t end = emx_min_s32(k + p->segment, p->depth); k < end; k++) {
            const uint32_t four = emx_mixed_weights(p->bits, w, k);
            EMX_UNROLL
            for (int o = 0; o < EMX_BLOCK; o++) {
                const float v = x[p->each ? k * EMX_BLOCK + o : k];
                sum[o] += v * (float)emx_mixed_weight(p->bits, four, o);
            }
        }
        EMX_UNROLL
        for (int o = 0; o < EMX_BLOCK; o++) {
            total[o] += sum[o] * m[o];
        }
    }
    for (int32_t o = 0; o < n; o++) {
        y[o] = emx_clamp_f32(total[o], p->lo, p->hi);
    }
}

// All blocks of a part; returns the parameters of the next one.
EMX_INLINE const int32_t *emx_mixed_part(const emx_conv2d_mixed_t *p, const void *x,
                                         const uint8_t **w, const int32_t *q, int32_t outputs,
                                         char *y)
{
    const int32_t words = (p->size == 4 ? 1 : 3) + p->segments;
    for (int32_t o = 0; o < outputs; o += EMX_BLOCK) {
        const int32_t n = emx_min_s32(outputs - o, EMX_BLOCK);
        if (p->size == 4) {
            emx_mixed_block_f32(p, (const float *)x, *w, (const float *)(const void *)q, n,
                                (float *)(void *)(y + o * p->size));
        } else {
            emx_mixed_block_int(p, x, *w, q, n, y + o * p->size);
        }
        *w += p->depth * EMX_BLOCK * p->bits / 8;
        q += words * EMX_BLOCK;
    }
    return q;
}

// x[i] of a window, i counted in elements, is that of the image at `from`, or what is outside.
EMX_INLINE void emx_mixed_stage(const emx_conv2d_mixed_t *p, char *x, int32_t i, const char *from)
{
    if (from) {
        memcpy(x + i * p->size, from, (size_t)p->size);
    } else if (p->size == 1) {
        ((int8_t *)(void *)x)[i] = (int8_t)p->x_zero;
    } else if (p->size == 2) {
        ((int16_t *)(void *)x)[i] = (int16_t)p->x_zero;
    } else {
        ((float *)(void *)x)[i] = 0.0f;
    }
}

// The window whose corner is at (iy, ix), of n <= part_in channels from the first at `image`.
EMX_INLINE void emx_mixed_window(const emx_conv2d_mixed_t *p, const char *image, int32_t iy,
                                 int32_t ix, int32_t n, char *x)
{
    const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
    const emx_taps_t kx = emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w);
    for (int32_t i = 0; i < p->kernel_h; i++) {
        for (int32_t j = 0; j < p->kernel_w; j++) {
            const bool inside = i >= ky.first && i < ky.last && j >= kx.first && j < kx.last;
            const int32_t at =
                (iy + i * p->dilation_h) * p->x_row + (ix + j * p->dilation_w) * p->x_col;
            for (int32_t c = 0; c < p->part_in; c++) {
                emx_mixed_stage(p, x, (i * p->kernel_w + j) * p->part_in + c,
                                inside && c < n ? image + (at + c * p->x_chan) * p->size : NULL);
            }
        }
    }
}

// All parts of a pixel.
EMX_INLINE void emx_mixed_pixel(const emx_conv2d_mixed_t *p, const char *image, int32_t iy,
                                int32_t ix, const uint8_t *w, const int32_t *q, char *window,
                                char *y)
{
    for (int32_t c = 0, o = 0; o < p->out_c; c += p->part_in, o += p->part_out) {
        emx_mixed_window(p, image + c * p->x_chan * p->size, iy, ix,
                         emx_min_s32(p->in_c - c, p->part_in), window);
        q = emx_mixed_part(p, window, &w, q, emx_min_s32(p->out_c - o, p->part_out),
                           y + o * p->size);
    }
}

EMX_INLINE void emx_conv2d_mixed(const emx_conv2d_mixed_t *p, const void *x, const uint8_t *w,
                                 const int32_t *q, void *scratch, void *y)
{
    const char *image = (const char *)x;
    char *to = (char *)y;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                emx_mixed_pixel(p, image, oy * p->stride_h - p->pad_top,
                                ox * p->stride_w - p->pad_left, w, q, (char *)scratch, to);
                to += p->out_c * p->size;
            }
        }
        image += p->in_h * p->in_w * p->in_c * p->size;
    }
}

EMX_INLINE void emx_linear_mixed(const emx_conv2d_mixed_t *p, const void *x, const uint8_t *w,
                                 const int32_t *q, void *y)
{
    for (int32_t i = 0; i < p->batch * p->out_h * p->out_w; i++) {
        const uint8_t *filters = w;
        emx_mixed_part(p, (const char *)x + i * p->in_c * p->size, &filters, q, p->out_c,
                       (char *)y + i * p->out_c * p->size);
    }
}

#endif
