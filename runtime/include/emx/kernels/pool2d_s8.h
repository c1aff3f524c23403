// SPDX-License-Identifier: Apache-2.0
// y[n][oy][ox][c] = clamp(zero + a * m / 2^shift) with a = sum of x[n][iy][ix][c] - x_zero, or the
//   maximum of x[n][iy][ix][c], less x_zero, over the window's taps inside the image,
//   iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix
//
//   x  [batch][in_h][in_w][channels]   y  [batch][out_h][out_w][channels]
//
// The product is exact, and rounded half to even. A mean divides by `divisor`, or, where that is 0,
// by the number of taps within pad_limit_h by pad_limit_w (the padded image, or the image itself),
// which may reach beyond the image: m[i] * 2^-shift[i] is the factor for count[i] of them. A
// maximum has the factor m[0] * 2^-shift[0].
// No scratch. Pixel by pixel, four channels at a time: reads their window, then writes them.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_binary_s8.py).
#ifndef EMX_KERNELS_POOL2D_S8_H
#define EMX_KERNELS_POOL2D_S8_H
#include <emx/arch.h>
#include <emx/fixed.h>
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
    int32_t count[16], m[16], shift[16];
    int32_t x_zero, zero, lo, hi;
} emx_pool2d_s8_t;

// A pixel: its window's corner, the taps inside the image, and its place in m and shift.
typedef struct {
    const int8_t *x;
    emx_taps_t ky, kx;
    int32_t factor;
} emx_pool2d_at_s8_t;

// How many taps of one axis the mean counts.
EMX_INLINE int32_t emx_pool2d_counted_s8(int32_t at, int32_t kernel, int32_t extent, int32_t limit)
{
    return emx_min_s32(at + kernel, extent + limit) - emx_max_s32(at, -limit);
}

EMX_INLINE int32_t emx_pool2d_factor_s8(const emx_pool2d_s8_t *p, int32_t iy, int32_t ix)
{
    int32_t i = 0;
    if (!p->divisor && p->count[1]) {
        const int32_t counted = emx_pool2d_counted_s8(iy, p->kernel_h, p->in_h, p->pad_limit_h) *
                                emx_pool2d_counted_s8(ix, p->kernel_w, p->in_w, p->pad_limit_w);
        while (p->count[i] < counted) {
            i++;
        }
    }
    return i;
}

// The window of up to four channels, summed or compared: acc[c] for c < n.
EMX_INLINE void emx_pool2d_window_s8(const emx_pool2d_s8_t *p, int mean,
                                     const emx_pool2d_at_s8_t *at, const int8_t *x, int32_t n,
                                     int32_t acc[4])
{
    const int32_t step = p->dilation_w * p->channels;
    EMX_ALIGNED(4) int8_t best[4] = {INT8_MIN, INT8_MIN, INT8_MIN, INT8_MIN};
    for (int32_t i = at->ky.first; i < at->ky.last; i++) {
        const int8_t *row = x + i * p->dilation_h * p->in_w * p->channels + at->kx.first * step;
        const int32_t taps = at->kx.last - at->kx.first;
        if (n == 4 && mean) {
            emx_sum_4_s8(acc, row, step, taps);
        } else if (n == 4) {
            emx_max_4_s8(best, row, step, taps);
        } else {
            for (int32_t j = 0; j < taps; j++, row += step) {
                for (int32_t c = 0; c < n; c++) {
                    acc[c] += mean ? row[c] : 0;
                    best[c] = row[c] > best[c] ? row[c] : best[c];
                }
            }
        }
    }
    const int32_t taps = (at->ky.last - at->ky.first) * (at->kx.last - at->kx.first);
    EMX_UNROLL
    for (int c = 0; c < 4; c++) {
        acc[c] = mean ? acc[c] - taps * p->x_zero : best[c] - p->x_zero;
    }
}

EMX_INLINE void emx_pool2d_channels_s8(const emx_pool2d_s8_t *p, int mean,
                                       const emx_pool2d_at_s8_t *at, int32_t c, int32_t n,
                                       int8_t *y)
{
    int32_t acc[4] = {0, 0, 0, 0};
    const int32_t m = p->m[at->factor], shift = p->shift[at->factor];
    emx_pool2d_window_s8(p, mean, at, at->x + c, n, acc);
    for (int32_t i = 0; i < n; i++) {
        // Most maxima keep their scale: the factor is 1.
        const int64_t v =
            m == 1 << 30 && shift == 30 ? acc[i] : emx_round_even_s64((int64_t)acc[i] * m, shift);
        y[c + i] = emx_clamp_s8(v, p->zero, p->lo, p->hi);
    }
}

EMX_INLINE void emx_pool2d_s8(const emx_pool2d_s8_t *p, int mean, const int8_t *x, int8_t *y)
{
    for (int32_t pixel = 0; pixel < p->batch * p->out_h * p->out_w; pixel++) {
        const int32_t iy = pixel / p->out_w % p->out_h * p->stride_h - p->pad_top;
        const int32_t ix = pixel % p->out_w * p->stride_w - p->pad_left;
        const int32_t image = pixel / (p->out_h * p->out_w);
        const emx_pool2d_at_s8_t at = {
            x + ((image * p->in_h + iy) * p->in_w + ix) * p->channels,
            emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h),
            emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w),
            mean ? emx_pool2d_factor_s8(p, iy, ix) : 0,
        };
        int32_t c = 0;
        for (; c + 4 <= p->channels; c += 4) {
            emx_pool2d_channels_s8(p, mean, &at, c, 4, y);
        }
        if (c < p->channels) {
            emx_pool2d_channels_s8(p, mean, &at, c, p->channels - c, y);
        }
        y += p->channels;
    }
}

// The pool of a whole image that arrives row by row: in_h is 1, pad_top the number of the row. What
// is there so far is in y (maximum) or in scratch (sums); y is the result after the last. Sums are
// int16 if that is enough for kernel_h*kernel_w numbers, else int32.
EMX_INLINE void emx_avgpool2d_row_4_s8(const emx_pool2d_s8_t *p, const int8_t *x, void *scratch,
                                       int32_t c, int32_t n, int8_t *y)
{
    int16_t *const narrow = (int16_t *)scratch + c;
    int32_t *const wide = (int32_t *)scratch + c;
    const int32_t taps = p->kernel_h * p->kernel_w;
    int32_t acc[4] = {0, 0, 0, 0};
    if (p->pad_top > 0) {
        EMX_UNROLL
        for (int32_t i = 0; i < n; i++) {
            acc[i] = taps <= 255 ? narrow[i] : wide[i];
        }
    }
    if (n == 4) {
        emx_sum_4_s8(acc, x + c, p->channels, p->in_w);
    }
    for (int32_t j = 0; j < p->in_w && n < 4; j++) {
        for (int32_t i = 0; i < n; i++) {
            acc[i] += x[j * p->channels + c + i];
        }
    }
    if (p->pad_top < p->kernel_h - 1) {
        EMX_UNROLL
        for (int32_t i = 0; i < n; i++) {
            if (taps <= 255) {
                narrow[i] = (int16_t)acc[i];
            } else {
                wide[i] = acc[i];
            }
        }
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        const int64_t a = acc[i] - taps * p->x_zero;
        const int64_t v = emx_round_even_s64(a * p->m[0], p->shift[0]);
        y[c + i] = emx_clamp_s8(v, p->zero, p->lo, p->hi);
    }
}

EMX_INLINE void emx_avgpool2d_row_s8(const emx_pool2d_s8_t *p, const int8_t *x, void *scratch,
                                     int8_t *y)
{
    int32_t c = 0;
    for (; c + 4 <= p->channels; c += 4) {
        emx_avgpool2d_row_4_s8(p, x, scratch, c, 4, y);
    }
    if (c < p->channels) {
        emx_avgpool2d_row_4_s8(p, x, scratch, c, p->channels - c, y);
    }
}

EMX_INLINE void emx_maxpool2d_row_s8(const emx_pool2d_s8_t *p, const int8_t *x, int8_t *y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        int8_t best = p->pad_top ? y[c] : INT8_MIN;
        for (int32_t j = 0; j < p->in_w; j++) {
            const int8_t v = x[j * p->channels + c];
            best = v > best ? v : best;
        }
        y[c] = best;
        if (p->pad_top == p->kernel_h - 1) {
            const int64_t v =
                emx_round_even_s64((int64_t)(best - p->x_zero) * p->m[0], p->shift[0]);
            y[c] = emx_clamp_s8(v, p->zero, p->lo, p->hi);
        }
    }
}

EMX_INLINE void emx_maxpool2d_s8(const emx_pool2d_s8_t *p, const int8_t *x, int8_t *y)
{
    emx_pool2d_s8(p, 0, x, y);
}

EMX_INLINE void emx_avgpool2d_s8(const emx_pool2d_s8_t *p, const int8_t *x, int8_t *y)
{
    emx_pool2d_s8(p, 1, x, y);
}

#endif
