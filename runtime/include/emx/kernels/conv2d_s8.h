// SPDX-License-Identifier: Apache-2.0
// y[n][oy][ox][o] = scale(b[o] + sum_{ky,kx,c} x[n][iy][ix][g*C + c] * w[o][ky][kx][c])
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is x_zero outside the image;
//   C = in_c / groups, g = o / (out_c / groups); scale() of emx/quant.h
//
//   x     [batch][in_h][in_w][in_c] in elements of x_row, x_col, x_chan (so also channels first);
//         of emx_conv2d_u8 uint8, 128 more
//   w     [groups][blocks][depth][4], q  [groups][blocks][words], see arch/generic_s8.h;
//         depth is kernel_h*kernel_w*C, padded to a multiple of EMX_DEPTH
//   skip  [batch][out_h][out_w][out_c]: added to the result (emx_conv2d_add_s8), as emx/add_s8.h
//         says, or before the rounding (emx_conv2d_direct_s8)
//   y     [batch][out_h][out_w][out_c]
//
// scratch, aligned to 4, in this order:
//   EMX_STAGED*depth if `pixels` is 2, else depth
//   if EMX_STAGED is 4 and `pixels` 2: 2*depth for windows before they are widened, unless `runs`;
//   with `runs`, unless `inside`, C bytes that are x_zero
//   2*depth if `gather`: where the inputs of a window lie
//   pixels*out_c/groups if a skip is added to the result
// Image by image, row by row, in tiles of `pixels` pixels, or one where one is left, group by
// group: reads the windows of the tile, then writes its outputs, pixel by pixel, or with
// emx_conv2d_direct_s8 block by block, each just after the skip that it reads.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_conv_s8.py).
#ifndef EMX_KERNELS_CONV2D_S8_H
#define EMX_KERNELS_CONV2D_S8_H
#include <emx/add_s8.h>
#include <emx/dot_s8.h>
#include <emx/taps.h>

typedef struct {
    int32_t batch, in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t groups;
    int32_t x_row, x_col, x_chan;
    int32_t pixels;
    int32_t depth;
    int32_t contiguous; // 1: the taps of a row of the window are one run of memory
    int32_t gather;     // 1: what is inside the image is gathered by a table of offsets
    int32_t inside;     // 1: no window reaches beyond the image
    int32_t runs;  // 1: C is a multiple of 4, EMX_STAGED 4: pairs are widened from x as it lies
    int32_t tail;  // out_c / groups % 4
    int32_t twice; // 1: weights are packed so, see the micro-kernels of the target
    int32_t words; // of a block's parameters: 12, or 7, see emx/quant.h
    int32_t wide;  // 1: sums are scaled in 64 bits
    int32_t flip;  // 128 for emx_conv2d_u8, else 0: the bit in which x differs from int8
    int32_t x_zero;
    int32_t zero, lo, hi;
    int32_t skip[7]; // EMX_ADD_PARAMS; emx_conv2d_direct_s8: zero, m, shift
} emx_conv2d_s8_t;

enum { EMX_CONV2D_PLAIN, EMX_CONV2D_ADD, EMX_CONV2D_DIRECT };

// A window: the group's first channel of the pixel (0, 0) of its image, and its corner; `offsets`
// of its inputs from there, if `gather`.
typedef struct {
    const int8_t *x;
    int32_t iy, ix;
    const uint16_t *offsets;
} emx_conv2d_at_s8_t;

// The taps of one axis inside the image.
EMX_INLINE emx_taps_t emx_conv2d_taps_s8(const emx_conv2d_s8_t *p, int32_t at, int32_t dilation,
                                         int32_t kernel, int32_t extent)
{
    const emx_taps_t all = {0, kernel};
    return p->inside ? all : emx_taps(at, dilation, kernel, extent);
}

EMX_INLINE const int8_t *emx_conv2d_tap_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at,
                                           int32_t ky, int32_t kx)
{
    return at->x +
           ((at->iy + ky * p->dilation_h) * p->x_row + (at->ix + kx * p->dilation_w) * p->x_col);
}

// uint8 to int8, 128 less.
EMX_INLINE void emx_conv2d_flip_s8(int8_t *x, int32_t n)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t four;
        memcpy(&four, x + i, sizeof four);
        four ^= 0x80808080u;
        memcpy(x + i, &four, sizeof four);
    }
    for (; i < n; i++) {
        x[i] = (int8_t)(x[i] ^ -128);
    }
}

// One window as bytes, to[kernel_h][kernel_w][C].
EMX_INLINE void emx_conv2d_window_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at,
                                     int8_t *to)
{
    const int32_t depth = p->in_c / p->groups, row = p->kernel_w * depth;
    const emx_taps_t ky = emx_conv2d_taps_s8(p, at->iy, p->dilation_h, p->kernel_h, p->in_h);
    const emx_taps_t kx = emx_conv2d_taps_s8(p, at->ix, p->dilation_w, p->kernel_w, p->in_w);
    if (ky.first > 0 || ky.last < p->kernel_h || kx.first > 0 || kx.last < p->kernel_w) {
        memset(to, p->x_zero ^ p->flip, (size_t)(p->kernel_h * row));
    }
    const int8_t *x = emx_conv2d_tap_s8(p, at, ky.first, kx.first);
    int8_t *first = to + ky.first * row + kx.first * depth;
    for (int32_t i = ky.first; i < ky.last && kx.first < kx.last; i++) {
        if (p->contiguous) {
            emx_copy_s8(first, x, (kx.last - kx.first) * depth);
        }
        for (int32_t k = 0; k < kx.last - kx.first && !p->contiguous; k++) {
            for (int32_t c = 0; c < depth; c++) {
                first[k * depth + c] = x[k * p->dilation_w * p->x_col + c * p->x_chan];
            }
        }
        x += p->dilation_h * p->x_row;
        first += row;
    }
    if (p->flip) {
        emx_conv2d_flip_s8(to, p->kernel_h * row);
    }
}

// The windows of two pixels, C a multiple of 4 and x_chan 1; zeros[C] stands for what is outside.
EMX_INLINE void emx_conv2d_runs_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at,
                                   const int8_t *zeros, int8_t *pair)
{
    const int32_t depth = p->in_c / p->groups, next = p->stride_w * p->x_col;
    const emx_taps_t ky = emx_conv2d_taps_s8(p, at->iy, p->dilation_h, p->kernel_h, p->in_h);
    const int32_t end = at->ix + p->stride_w + (p->kernel_w - 1) * p->dilation_w;
    const bool within = p->inside || (at->ix >= 0 && end < p->in_w);
    for (int32_t i = 0; i < p->kernel_h; i++) {
        const bool row = i >= ky.first && i < ky.last;
        const int32_t taps = p->contiguous && within && row ? p->kernel_w : 1;
        for (int32_t k = 0; k < p->kernel_w; k += taps) {
            const int32_t ix = at->ix + k * p->dilation_w;
            const int8_t *const tap = emx_conv2d_tap_s8(p, at, i, k);
            const bool first = p->inside || (row && ix >= 0 && ix < p->in_w);
            const bool second =
                p->inside || (row && ix + p->stride_w >= 0 && ix + p->stride_w < p->in_w);
            emx_stage_2_s8(pair, p->depth, (i * p->kernel_w + k) * depth, first ? tap : zeros,
                           second ? tap + next : zeros, taps * depth);
        }
    }
}

// Whether the windows of two pixels lie inside the image.
EMX_INLINE bool emx_conv2d_within_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at)
{
    const int32_t last_y = at->iy + (p->kernel_h - 1) * p->dilation_h;
    const int32_t last_x = at->ix + p->stride_w + (p->kernel_w - 1) * p->dilation_w;
    return p->inside || (at->iy >= 0 && last_y < p->in_h && at->ix >= 0 && last_x < p->in_w);
}

// Two windows as bytes, to[2][depth].
EMX_INLINE void emx_conv2d_windows_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at,
                                      int8_t *to)
{
    const int32_t row = p->kernel_w * p->in_c / p->groups, next = p->stride_w * p->x_col;
    const int8_t *x = emx_conv2d_tap_s8(p, at, 0, 0);
    if ((p->gather || p->contiguous) && emx_conv2d_within_s8(p, at)) {
        for (int32_t i = 0; i < p->kernel_h && !p->gather; i++) {
            emx_copy_s8(to + i * row, x, row);
            emx_copy_s8(to + p->depth + i * row, x + next, row);
            x += p->dilation_h * p->x_row;
        }
        if (p->gather) {
            emx_gather_s8(to, x, at->offsets, p->kernel_h * row);
            emx_gather_s8(to + p->depth, x + next, at->offsets, p->kernel_h * row);
        }
        if (p->flip) {
            emx_conv2d_flip_s8(to, p->depth + p->kernel_h * row);
        }
        return;
    }
    const emx_conv2d_at_s8_t second = {at->x, at->iy, at->ix + p->stride_w, at->offsets};
    emx_conv2d_window_s8(p, at, to);
    emx_conv2d_window_s8(p, &second, to + p->depth);
}

EMX_INLINE void emx_conv2d_pair_s8(const emx_conv2d_s8_t *p, const emx_conv2d_at_s8_t *at,
                                   int8_t *pair)
{
    int8_t *const beyond = pair + EMX_STAGED * p->depth;
    if (p->runs) {
        emx_conv2d_runs_s8(p, at, beyond, pair);
    } else if (EMX_STAGED == 2) {
        emx_conv2d_windows_s8(p, at, pair);
    } else {
        emx_conv2d_windows_s8(p, at, beyond);
        emx_stage_2_s8(pair, p->depth, 0, beyond, beyond + p->depth, p->depth);
    }
}

// The outputs of one group of `pixels` pixels, whose windows are in scratch.
EMX_INLINE void emx_conv2d_outputs_s8(const emx_conv2d_s8_t *p, int mode, const emx_dot_s8_t *dot,
                                      int pixels, const int8_t *x, const int8_t *skip,
                                      const int8_t *w, const int32_t *q, int8_t *sums, int8_t *y)
{
    const emx_packing_s8_t how = {p->twice, p->words, p->tail, emx_clamped_s8(p->lo, p->hi)};
    int8_t *const to = mode == EMX_CONV2D_ADD ? sums : y;
    if (p->wide || mode == EMX_CONV2D_DIRECT) {
        const emx_direct_s8_t direct = {mode == EMX_CONV2D_DIRECT ? skip : NULL, p->skip[0],
                                        p->skip[1], p->skip[2]};
        if (p->wide) {
            emx_outputs_wide_s8(dot, pixels, x, w, q, &direct, to);
        } else {
            emx_outputs_direct_s8(dot, pixels, x, w, q, &direct, to);
        }
    } else {
        emx_outputs_s8(dot, &how, pixels, x, w, q, to);
    }
    if (mode == EMX_CONV2D_ADD) {
        int32_t add[EMX_ADD_PARAMS]; // not p->skip, whose address would keep p in memory
        memcpy(add, p->skip, sizeof add);
        for (int32_t i = 0; i < pixels; i++) {
            emx_add_run_s8(add, to + i * dot->outputs, skip + i * p->out_c, y + i * p->out_c,
                           dot->outputs);
        }
    }
}

// All outputs of a tile of `pixels` pixels.
EMX_INLINE void emx_conv2d_tile_s8(const emx_conv2d_s8_t *p, int mode, const emx_dot_s8_t *dot,
                                   int pixels, emx_conv2d_at_s8_t at, const int8_t *skip,
                                   const int8_t *w, const int32_t *q, int8_t *scratch, int8_t *y)
{
    const int32_t blocks = (dot->outputs + EMX_BLOCK - 1) / EMX_BLOCK;
    const int32_t pair = p->pixels == 2 && EMX_STAGED == 4 ? p->depth : 0;
    const int32_t inner = p->in_c / p->groups;
    int8_t *const sums = scratch + p->pixels * p->depth +
                         (!p->runs    ? 4 * pair
                          : p->inside ? 2 * pair
                                      : 2 * pair + inner) +
                         (p->gather ? 2 * p->depth : 0);
    for (int32_t g = 0; g < p->groups; g++) {
        if (pixels == 2) {
            emx_conv2d_pair_s8(p, &at, scratch);
        } else {
            emx_conv2d_window_s8(p, &at, scratch);
        }
        emx_conv2d_outputs_s8(p, mode, dot, pixels, scratch, skip, w, q, sums, y);
        at.x += inner * p->x_chan;
        w += blocks * EMX_BLOCK * p->depth;
        q += blocks * p->words;
        y += dot->outputs;
        skip = skip ? skip + dot->outputs : NULL;
    }
}

// The table of emx_gather_s8.
EMX_INLINE void emx_conv2d_offsets_s8(const emx_conv2d_s8_t *p, uint16_t *offsets)
{
    for (int32_t i = 0; i < p->kernel_h; i++) {
        for (int32_t k = 0; k < p->kernel_w; k++) {
            const int32_t tap = i * p->dilation_h * p->x_row + k * p->dilation_w * p->x_col;
            for (int32_t c = 0; c < p->in_c / p->groups; c++) {
                *offsets++ = (uint16_t)(tap + c * p->x_chan);
            }
        }
    }
}

EMX_INLINE void emx_conv2d_rows_s8(const emx_conv2d_s8_t *p, int mode, const int8_t *x,
                                   const int8_t *skip, const int8_t *w, const int32_t *q,
                                   int8_t *scratch, int8_t *y)
{
    const int32_t outputs = p->out_c / p->groups;
    const emx_dot_s8_t dot = emx_dot_of_s8(
        p->depth, outputs, mode == EMX_CONV2D_ADD ? outputs : p->out_c, p->zero, p->lo, p->hi);
    if (p->runs && !p->inside) {
        memset(scratch + EMX_STAGED * p->depth, p->x_zero, (size_t)(p->in_c / p->groups));
    }
    uint16_t *const offsets = (uint16_t *)(void *)(scratch + p->pixels * p->depth);
    if (p->gather) {
        emx_conv2d_offsets_s8(p, offsets);
    }
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            emx_conv2d_at_s8_t at = {x, oy * p->stride_h - p->pad_top, -p->pad_left, offsets};
            int32_t left = p->out_w;
            while (left > 0) {
                const int32_t pixels = p->pixels == 2 && left > 1 ? 2 : 1;
                if (pixels == 2) {
                    emx_conv2d_tile_s8(p, mode, &dot, 2, at, skip, w, q, scratch, y);
                } else {
                    emx_conv2d_tile_s8(p, mode, &dot, 1, at, skip, w, q, scratch, y);
                }
                at.ix += pixels * p->stride_w;
                y += pixels * p->out_c;
                skip = skip ? skip + pixels * p->out_c : NULL;
                left -= pixels;
            }
        }
        x += p->in_h * p->in_w * p->in_c;
    }
}

EMX_INLINE void emx_conv2d_s8(const emx_conv2d_s8_t *p, const int8_t *x, const int8_t *w,
                              const int32_t *q, void *scratch, int8_t *y)
{
    emx_conv2d_rows_s8(p, EMX_CONV2D_PLAIN, x, NULL, w, q, (int8_t *)scratch, y);
}

EMX_INLINE void emx_conv2d_u8(const emx_conv2d_s8_t *p, const uint8_t *x, const int8_t *w,
                              const int32_t *q, void *scratch, int8_t *y)
{
    emx_conv2d_s8(p, (const int8_t *)x, w, q, scratch, y);
}

EMX_INLINE void emx_conv2d_add_s8(const emx_conv2d_s8_t *p, const int8_t *x, const int8_t *skip,
                                  const int8_t *w, const int32_t *q, void *scratch, int8_t *y)
{
    emx_conv2d_rows_s8(p, EMX_CONV2D_ADD, x, skip, w, q, (int8_t *)scratch, y);
}

EMX_INLINE void emx_conv2d_direct_s8(const emx_conv2d_s8_t *p, const int8_t *x, const int8_t *skip,
                                     const int8_t *w, const int32_t *q, void *scratch, int8_t *y)
{
    emx_conv2d_rows_s8(p, EMX_CONV2D_DIRECT, x, skip, w, q, (int8_t *)scratch, y);
}

#endif
