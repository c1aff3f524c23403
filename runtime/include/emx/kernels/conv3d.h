// SPDX-License-Identifier: Apache-2.0
// y[n][oz][oy][ox][o] =
//       clamp(b[o] + sum_{kz,ky,kx,c} x[n][iz][iy][ix][g*C + c] * w[o][kz][ky][kx][c] + skip)
//   over the taps for which iz*spread_d = oz*stride_d + kz*dilation_d - pad_front has a solution
//   inside x, likewise iy, ix. C = in_c / groups, g = o / (out_c / groups).
//
// A spread of 1 is the convolution. A spread of s with stride 1 is the transposed convolution of
// stride s, in the form that computes each output once from the inputs that reach it.
//
//   x     [batch][in_d][in_h][in_w][in_c]
//   w     [groups][ceil(out_c/groups / 4)][kernel_d][kernel_h][kernel_w][C][4], zero-padded,
//         16-byte aligned
//   b     [out_c]
//   skip  [batch][out_d][out_h][out_w][out_c], only emx_conv3d_add_f32
//   y     [batch][out_d][out_h][out_w][out_c]
//
// No scratch. Sums run over kz, ky, kx, c in ascending order, starting from b. Row by row; within a
// row all pixels with ox % spread_w == 0, then 1, ...; tiles of up to four of these pixels by four
// output channels: a tile reads x, then, pixel by pixel, reads skip and writes y, so y may be skip.
//
// y may lie over x if it starts far enough before x, and only then (python/emx/ops/conv3d.py).
#ifndef EMX_KERNELS_CONV3D_H
#define EMX_KERNELS_CONV3D_H
#include <emx/arch.h>

typedef struct {
    int32_t batch, in_d, in_h, in_w, in_c;
    int32_t out_d, out_h, out_w, out_c;
    int32_t kernel_d, kernel_h, kernel_w;
    int32_t stride_d, stride_h, stride_w;
    int32_t dilation_d, dilation_h, dilation_w;
    int32_t spread_d, spread_h, spread_w;
    int32_t step_d, step_h, step_w; // from a tap of an output to its next one
    int32_t pad_front, pad_top, pad_left;
    int32_t groups;
    int32_t tail;       // out_c / groups % 4
    int32_t contiguous; // 1: the taps of a row of the window are one run of memory
    float lo, hi;
} emx_conv3d_f32_t;

// The n taps of one axis that reach an output: k, k + step, ... at i, i + move, ... of x.
typedef struct {
    int32_t k, step, i, move, n;
} emx_conv3d_taps_t;

// The taps at `at` = o * stride - pad.
EMX_INLINE emx_conv3d_taps_t emx_conv3d_taps(int32_t at, int32_t kernel, int32_t dilation,
                                             int32_t spread, int32_t step, int32_t extent)
{
    int32_t k = 0;
    while (k < step && (at + k * dilation) % spread != 0) {
        k++;
    }
    emx_conv3d_taps_t t = {k, step, (at + k * dilation) / spread, dilation * step / spread, 0};
    const int32_t before = t.i < 0 ? (-t.i + t.move - 1) / t.move : 0;
    t.k += before * step;
    t.i += before * t.move;
    if (k < step && t.k < kernel && t.i < extent) {
        t.n = emx_min_s32((kernel - t.k + step - 1) / step, (extent - t.i + t.move - 1) / t.move);
    }
    return t;
}

// `pixels` (1 or 4) outputs of a row by `lanes` <= 4 output channels. `in` is the group's first
// channel of the image; w, b, skip and out are those of the first pixel and channel.
EMX_INLINE void emx_conv3d_tile_f32(const emx_conv3d_f32_t *p, int32_t pixels, emx_conv3d_taps_t z,
                                    emx_conv3d_taps_t y, emx_conv3d_taps_t x, const float *in,
                                    const float *w, const float *b, const float *skip, float *out,
                                    int32_t lanes)
{
    const int32_t depth = p->in_c / p->groups;
    float acc[16];
    EMX_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = i < 4 * pixels && (i & 3) < lanes ? b[i & 3] : 0.0f;
    }
    const int32_t runs = p->contiguous ? emx_min_s32(x.n, 1) : x.n;
    const int32_t length = p->contiguous ? x.n * depth : depth;
    for (int32_t at = 0; at < z.n * y.n; at++) {
        const int32_t iz = z.i + at / y.n * z.move, kz = z.k + at / y.n * z.step;
        const int32_t iy = y.i + at % y.n * y.move, ky = y.k + at % y.n * y.step;
        const float *tap = in + ((iz * p->in_h + iy) * p->in_w + x.i) * p->in_c;
        const float *column = w + ((kz * p->kernel_h + ky) * p->kernel_w + x.k) * depth * 4;
        for (int32_t j = 0; j < runs; j++) {
            if (pixels == 4) {
                emx_mac_4x4_f32(acc, tap, p->stride_w * p->in_c, 1, column, length);
            } else {
                emx_mac_1x4_f32(acc, tap, 1, column, length);
            }
            tap += x.move * p->in_c;
            column += x.step * depth * 4;
        }
    }
    const int32_t next = p->spread_w * p->out_c;
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        if (i < pixels) {
            emx_store_4_f32(out + i * next, acc + 4 * i, skip ? skip + i * next : NULL, p->lo,
                            p->hi, lanes);
        }
    }
}

// All output channels of `pixels` outputs of a row, in tiles of four channels.
EMX_INLINE void emx_conv3d_pixels_f32(const emx_conv3d_f32_t *p, int32_t pixels,
                                      emx_conv3d_taps_t z, emx_conv3d_taps_t y, emx_conv3d_taps_t x,
                                      const float *in, const float *w, const float *b,
                                      const float *skip, float *out)
{
    const int32_t depth = p->in_c / p->groups;
    const int32_t whole = p->out_c / p->groups - p->tail;
    const int32_t column = p->kernel_d * p->kernel_h * p->kernel_w * depth * 4;
    for (int32_t g = 0; g < p->groups; g++) {
        for (int32_t o = 0; o < whole; o += 4) {
            emx_conv3d_tile_f32(p, pixels, z, y, x, in, w, b, skip, out, 4);
            w += column;
            b += 4;
            out += 4;
            skip = skip ? skip + 4 : NULL;
        }
        if (p->tail) {
            emx_conv3d_tile_f32(p, pixels, z, y, x, in, w, b, skip, out, p->tail);
            w += column;
            b += p->tail;
            out += p->tail;
            skip = skip ? skip + p->tail : NULL;
        }
        in += depth;
    }
}

EMX_INLINE emx_conv3d_taps_t emx_conv3d_column(const emx_conv3d_f32_t *p, int32_t ox)
{
    return emx_conv3d_taps(ox * p->stride_w - p->pad_left, p->kernel_w, p->dilation_w, p->spread_w,
                           p->step_w, p->in_w);
}

EMX_INLINE void emx_conv3d_row_f32(const emx_conv3d_f32_t *p, emx_conv3d_taps_t z,
                                   emx_conv3d_taps_t y, const float *in, const float *w,
                                   const float *b, const float *skip, float *out)
{
    for (int32_t phase = 0; phase < p->spread_w; phase++) {
        int32_t ox = phase;
        while (ox < p->out_w) {
            const int32_t at = ox * p->out_c, end = ox + 3 * p->spread_w;
            const emx_conv3d_taps_t x = emx_conv3d_column(p, ox), last = emx_conv3d_column(p, end);
            const float *const add = skip ? skip + at : NULL;
            if (end < p->out_w && x.n > 0 && x.n == last.n && x.k == last.k) {
                emx_conv3d_pixels_f32(p, 4, z, y, x, in, w, b, add, out + at);
                ox += 4 * p->spread_w;
            } else {
                emx_conv3d_pixels_f32(p, 1, z, y, x, in, w, b, add, out + at);
                ox += p->spread_w;
            }
        }
    }
}

EMX_INLINE void emx_conv3d_add_f32(const emx_conv3d_f32_t *p, const float *x, const float *skip,
                                   const float *w, const float *b, float *y)
{
    const int32_t row = p->out_w * p->out_c;
    const int32_t rows = p->out_d * p->out_h;
    for (int32_t at = 0; at < p->batch * rows; at++) {
        const int32_t oz = at % rows / p->out_h, oy = at % p->out_h;
        const emx_conv3d_taps_t tz =
            emx_conv3d_taps(oz * p->stride_d - p->pad_front, p->kernel_d, p->dilation_d,
                            p->spread_d, p->step_d, p->in_d);
        const emx_conv3d_taps_t ty =
            emx_conv3d_taps(oy * p->stride_h - p->pad_top, p->kernel_h, p->dilation_h, p->spread_h,
                            p->step_h, p->in_h);
        const float *const in = x + at / rows * (p->in_d * p->in_h * p->in_w * p->in_c);
        emx_conv3d_row_f32(p, tz, ty, in, w, b, skip ? skip + at * row : NULL, y + at * row);
    }
}

EMX_INLINE void emx_conv3d_f32(const emx_conv3d_f32_t *p, const float *x, const float *w,
                               const float *b, float *y)
{
    emx_conv3d_add_f32(p, x, NULL, w, b, y);
}

#endif
