// SPDX-License-Identifier: Apache-2.0
// y[n][oz][oy][ox][o] = scale(b[o] + sum x[n][iz][iy][ix][g*C + c] * w[o][kz][ky][kx][c])
//   over the taps for which iz*spread_d = oz*stride_d + kz*dilation_d - pad_front has a solution,
//   likewise iy, ix; x is x_zero outside the image; C = in_c / groups, g = o / (out_c / groups).
//
// A spread of 1 is the convolution. A spread of s with stride 1 is the transposed convolution of
// stride s, in the form that computes each output once from the inputs that reach it. Outputs
// whose places modulo the spreads agree have the same taps: a phase.
//
//   x  [batch][in_d][in_h][in_w][in_c]     y  [batch][out_d][out_h][out_w][out_c]
//   w  for each phase, z outermost: [groups][blocks][D][4], D the taps of the phase times C, padded
//     to a multiple of EMX_DEPTH, and one of weight 0 where there are none
//   q  [phases][groups][blocks][12], see arch/generic_s8.h
//   scratch  the windows of two pixels, [2][depth], depth the greatest D; if EMX_STAGED is 4, the
//            same as a pair, [depth][4]
//
// Row by row; in a row phase by phase, two pixels of the phase at once, group by group: the windows
// are read, then the outputs written. y may lie over x if it starts far enough before x, and only
// then (python/emx/ops/conv3d_s8.py).
#ifndef EMX_KERNELS_CONV3D_S8_H
#define EMX_KERNELS_CONV3D_S8_H
#include <emx/dot_s8.h>

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
    int32_t depth;
    int32_t wide; // 1: sums are scaled in 64 bits
    int32_t x_zero;
    int32_t lo, hi;
} emx_conv3d_s8_t;

// The n taps of one axis that reach an output, at i, i + move, ... of x; some may be outside.
typedef struct {
    int32_t i, move, n;
} emx_conv3d_taps_s8_t;

// What the rows of one image, or one pixel, work with.
typedef struct {
    const int8_t *x, *w;
    const int32_t *q;
    int8_t *scratch;
    emx_conv3d_taps_s8_t z, y;
} emx_conv3d_walk_s8_t;

// The taps at `at` = o * stride - pad.
EMX_INLINE emx_conv3d_taps_s8_t emx_conv3d_taps_s8(int32_t at, int32_t kernel, int32_t dilation,
                                                   int32_t spread, int32_t step)
{
    int32_t k = 0;
    while (k < step && (at + k * dilation) % spread != 0) {
        k++;
    }
    const emx_conv3d_taps_s8_t t = {(at + k * dilation) / spread, dilation * step / spread,
                                    k < step && k < kernel ? (kernel - k + step - 1) / step : 0};
    return t;
}

EMX_INLINE emx_conv3d_taps_s8_t emx_conv3d_plane_s8(const emx_conv3d_s8_t *p, int32_t oz)
{
    return emx_conv3d_taps_s8(oz * p->stride_d - p->pad_front, p->kernel_d, p->dilation_d,
                              p->spread_d, p->step_d);
}

EMX_INLINE emx_conv3d_taps_s8_t emx_conv3d_row_s8(const emx_conv3d_s8_t *p, int32_t oy)
{
    return emx_conv3d_taps_s8(oy * p->stride_h - p->pad_top, p->kernel_h, p->dilation_h,
                              p->spread_h, p->step_h);
}

EMX_INLINE emx_conv3d_taps_s8_t emx_conv3d_column_s8(const emx_conv3d_s8_t *p, int32_t ox)
{
    return emx_conv3d_taps_s8(ox * p->stride_w - p->pad_left, p->kernel_w, p->dilation_w,
                              p->spread_w, p->step_w);
}

// Inputs of an output, padded, that has n taps; where it has none there is one of weight 0.
EMX_INLINE int32_t emx_conv3d_depth_s8(const emx_conv3d_s8_t *p, int32_t n)
{
    const int32_t inputs = emx_max_s32(n, 1) * (p->in_c / p->groups);
    return (inputs + EMX_DEPTH - 1) / EMX_DEPTH * EMX_DEPTH;
}

// Inputs of all phases before number `phase`: how many blocks of weights to skip, in inputs.
EMX_INLINE int32_t emx_conv3d_before_s8(const emx_conv3d_s8_t *p, int32_t phase)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < phase; i++) {
        const int32_t n = emx_conv3d_plane_s8(p, i / (p->spread_h * p->spread_w)).n *
                          emx_conv3d_row_s8(p, i / p->spread_w % p->spread_h).n *
                          emx_conv3d_column_s8(p, i % p->spread_w).n;
        sum += emx_conv3d_depth_s8(p, n);
    }
    return sum;
}

// The window of one pixel and one group, tap after tap.
EMX_INLINE void emx_conv3d_stage_s8(const emx_conv3d_s8_t *p, const emx_conv3d_walk_s8_t *a,
                                    emx_conv3d_taps_s8_t x, int32_t channel, int8_t *to)
{
    const int32_t depth = p->in_c / p->groups;
    for (int32_t i = 0; i < a->z.n * a->y.n * x.n; i++) {
        const int32_t iz = a->z.i + i / (a->y.n * x.n) * a->z.move;
        const int32_t iy = a->y.i + i / x.n % a->y.n * a->y.move;
        const int32_t ix = x.i + i % x.n * x.move;
        const bool inside =
            iz >= 0 && iz < p->in_d && iy >= 0 && iy < p->in_h && ix >= 0 && ix < p->in_w;
        if (inside) {
            const int32_t at = ((iz * p->in_h + iy) * p->in_w + ix) * p->in_c + channel;
            emx_copy_s8(to, a->x + at, depth);
        } else {
            memset(to, p->x_zero, (size_t)depth);
        }
        to += depth;
    }
}

// All outputs of one pixel, or of two whose windows are `apart` pixels of x from each other.
EMX_INLINE void emx_conv3d_pixels_s8(const emx_conv3d_s8_t *p, const emx_conv3d_walk_s8_t *a,
                                     int32_t pixels, emx_conv3d_taps_s8_t x, int8_t *y)
{
    const int32_t outputs = p->out_c / p->groups, blocks = (outputs + EMX_BLOCK - 1) / EMX_BLOCK;
    const int32_t depth = emx_conv3d_depth_s8(p, a->z.n * a->y.n * x.n);
    // The zero point is in the parameters, which are not short.
    const emx_dot_s8_t dot = emx_dot_of_s8(depth, outputs, p->spread_w * p->out_c, 0, p->lo, p->hi);
    const emx_direct_s8_t none = {NULL, 0, 0, 0};
    const emx_conv3d_taps_s8_t next = {x.i + p->stride_w, x.move, x.n};
    int8_t *const pair = a->scratch + (EMX_STAGED == 4 ? 2 * depth : 0);
    for (int32_t g = 0; g < p->groups; g++) {
        const int32_t channel = g * (p->in_c / p->groups);
        const int8_t *const w = a->w + g * blocks * EMX_BLOCK * depth;
        const int32_t *const q = a->q + g * blocks * EMX_BLOCK_PARAMS;
        emx_conv3d_stage_s8(p, a, x, channel, a->scratch);
        if (pixels == 2) {
            emx_conv3d_stage_s8(p, a, next, channel, a->scratch + depth);
            if (EMX_STAGED == 4) {
                emx_stage_2_s8(pair, depth, 0, a->scratch, a->scratch + depth, depth);
            }
        }
        const int8_t *const from = pixels == 2 ? pair : a->scratch;
        if (p->wide) {
            emx_outputs_wide_s8(&dot, pixels, from, w, q, &none, y + g * outputs);
        } else if (pixels == 2) {
            emx_outputs_2_s8(&dot, from, w, q, y + g * outputs);
        } else {
            emx_outputs_1_s8(&dot, from, w, q, y + g * outputs);
        }
    }
}

// One row; `phase` is that of its first pixel.
EMX_INLINE void emx_conv3d_pixel_row_s8(const emx_conv3d_s8_t *p, emx_conv3d_walk_s8_t a,
                                        int32_t phase, int8_t *y)
{
    const int32_t outputs = p->out_c / p->groups, blocks = (outputs + EMX_BLOCK - 1) / EMX_BLOCK;
    const int8_t *const w = a.w;
    const int32_t *const q = a.q;
    for (int32_t i = 0; i < p->spread_w; i++) {
        a.w = w + emx_conv3d_before_s8(p, phase + i) * p->groups * blocks * EMX_BLOCK;
        a.q = q + (phase + i) * p->groups * blocks * EMX_BLOCK_PARAMS;
        for (int32_t ox = i; ox < p->out_w; ox += 2 * p->spread_w) {
            const emx_conv3d_taps_s8_t x = emx_conv3d_column_s8(p, ox);
            const int32_t pixels = ox + p->spread_w < p->out_w ? 2 : 1;
            emx_conv3d_pixels_s8(p, &a, pixels, x, y + ox * p->out_c);
        }
    }
}

EMX_INLINE void emx_conv3d_s8(const emx_conv3d_s8_t *p, const int8_t *x, const int8_t *w,
                              const int32_t *q, void *scratch, int8_t *y)
{
    const int32_t rows = p->out_d * p->out_h;
    for (int32_t at = 0; at < p->batch * rows; at++) {
        const int32_t oz = at % rows / p->out_h, oy = at % p->out_h;
        const emx_conv3d_walk_s8_t a = {
            x + at / rows * (p->in_d * p->in_h * p->in_w * p->in_c),
            w,
            q,
            (int8_t *)scratch,
            emx_conv3d_plane_s8(p, oz),
            emx_conv3d_row_s8(p, oy),
        };
        const int32_t phase = (oz % p->spread_d * p->spread_h + oy % p->spread_h) * p->spread_w;
        emx_conv3d_pixel_row_s8(p, a, phase, y + at * p->out_w * p->out_c);
    }
}

#endif
