// SPDX-License-Identifier: Apache-2.0
// y[n][oy][ox][o] = clamp(b[o] + sum_{ky,kx,c} x[n][iy][ix][g*C + c] * w[o][ky][kx][c] + skip)
//   with iy = oy*stride_h + ky*dilation_h - pad_top, likewise ix; x is 0 outside the image;
//   C = in_c / groups, g = o / (out_c / groups).
//
//   x     [batch][in_h][in_w][in_c] in elements of x_row, x_col, x_chan (so also channels first)
//   w     [groups][ceil(out_c/groups / L)][kernel_h][kernel_w][C][L], zero-padded, 16-byte aligned
//   b     [out_c], then zeros to the end of a column, at least C if `edges`
//   skip  [batch][out_h][out_w][out_c], only emx_conv2d_add_f32
//   y     [batch][out_h][out_w][out_c]
//
// L is EMX_LANES. No scratch. Sums run over ky, kx, c in ascending order, starting from b. Tiles
// (emx/tile.h) of EMX_TILE_PIXELS pixels of a row, row by row: a tile reads x, then, pixel by
// pixel, reads skip and writes y, so y may be skip. Where fewer pixels are left, or taps lie
// outside the image, the tile is one pixel; or, if `edges`, zeros stand for what is missing.
// EMX_WIDE_PIXEL: a tile of one pixel has more columns at once, if the processor is faster so.
//
// y may lie over x if it starts far enough before x, and only then: the least distance follows
// from this order of reads and writes (python/emx/window.py, proved by tests/test_overlap.py).
#ifndef EMX_KERNELS_CONV2D_H
#define EMX_KERNELS_CONV2D_H
#include <emx/taps.h>
#include <emx/tile.h>

typedef struct {
    int32_t batch, in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t groups;
    int32_t tail; // out_c / groups % L
    int32_t x_row, x_col, x_chan;
    int32_t contiguous; // 1: the taps of a row of the window are one run of memory
    int32_t edges;      // 1: tiles may reach beyond the image
    float lo, hi;
} emx_conv2d_f32_t;

// Where a tile is: its first pixel, the taps inside the image and, for tiles that reach beyond it,
// how many pixels there are and what stands for the others.
typedef struct {
    int32_t ix; // of the window's corner
    emx_taps_t ky, kx;
    int32_t valid;
    int edge; // 0: all taps of kx are inside for all pixels
    const float *zeros;
} emx_conv2d_at_t;

// What the kernel walks along: the corner of the window, and the first output of a tile.
typedef struct {
    const float *x, *w, *b, *skip;
    float *y;
    int32_t left; // whole columns to do
} emx_conv2d_walk_t;

// Add the taps of the window: run by run, or tap by tap.
EMX_INLINE void emx_conv2d_inside_f32(const emx_conv2d_f32_t *p, int pixels, int columns,
                                      const emx_conv2d_at_t *at, const float *x, const float *w,
                                      float *sum)
{
    const int32_t depth = p->in_c / p->groups;
    const int32_t column = p->kernel_h * p->kernel_w * depth * EMX_LANES;
    const int32_t taps = at->kx.last - at->kx.first;
    for (int32_t i = at->ky.first; i < at->ky.last; i++) {
        for (int32_t j = 0; j < (p->contiguous ? emx_min_s32(taps, 1) : taps); j++) {
            const int32_t k = at->kx.first + j;
            const float *const tap =
                x + (i * p->dilation_h * p->x_row + k * p->dilation_w * p->x_col);
            const float *pixel[EMX_TILE_PIXELS];
            EMX_UNROLL
            for (int m = 0; m < pixels; m++) {
                pixel[m] = tap + m * p->stride_w * p->x_col;
            }
            emx_mac_f32(sum, pixels, columns, pixel, p->x_chan,
                        w + (i * p->kernel_w + k) * depth * EMX_LANES, column,
                        p->contiguous ? taps * depth : depth);
        }
    }
}

// The same for a tile that reaches beyond the image, or has fewer pixels than `pixels`.
EMX_INLINE void emx_conv2d_edge_f32(const emx_conv2d_f32_t *p, int pixels, int columns,
                                    const emx_conv2d_at_t *at, const float *x, const float *w,
                                    float *sum)
{
    const int32_t depth = p->in_c / p->groups;
    const int32_t column = p->kernel_h * p->kernel_w * depth * EMX_LANES;
    const int32_t run = p->x_chan == 1 ? depth : 1; // a run of zeros has step 1
    for (int32_t i = at->ky.first; i < at->ky.last; i++) {
        for (int32_t k = 0; k < p->kernel_w; k++) {
            const int32_t ix = at->ix + k * p->dilation_w;
            const float *const tap =
                x + (i * p->dilation_h * p->x_row + k * p->dilation_w * p->x_col);
            for (int32_t c = 0; c < depth; c += run) {
                const float *pixel[EMX_TILE_PIXELS];
                EMX_UNROLL
                for (int m = 0; m < pixels; m++) {
                    const int32_t to = ix + m * p->stride_w;
                    pixel[m] = m < at->valid && to >= 0 && to < p->in_w
                                   ? tap + (m * p->stride_w * p->x_col + c * p->x_chan)
                                   : at->zeros;
                }
                emx_mac_f32(sum, pixels, columns, pixel, 1,
                            w + ((i * p->kernel_w + k) * depth + c) * EMX_LANES, column, run);
            }
        }
    }
}

// One tile; `lanes` < L of a last column that is not whole.
EMX_INLINE void emx_conv2d_tile_f32(const emx_conv2d_f32_t *p, int pixels, int columns, int lanes,
                                    const emx_conv2d_at_t *at, const emx_conv2d_walk_t *to)
{
    emx_tile_f32_t t;
    emx_tile_start_f32(&t, pixels, columns, to->b);
    if (at->edge) {
        emx_conv2d_edge_f32(p, pixels, columns, at, to->x, to->w, t.sum);
    } else {
        emx_conv2d_inside_f32(p, pixels, columns, at, to->x, to->w, t.sum);
    }
    emx_tile_store_f32(&t, pixels, columns, at->valid, to->skip, to->y, p->out_c, p->lo, p->hi,
                       lanes);
}

EMX_INLINE void emx_conv2d_step_f32(const emx_conv2d_f32_t *p, emx_conv2d_walk_t *to, int columns,
                                    int32_t outputs)
{
    const int32_t depth = p->in_c / p->groups;
    to->w += p->kernel_h * p->kernel_w * depth * columns * EMX_LANES;
    to->b += outputs;
    to->y += outputs;
    to->skip = to->skip ? to->skip + outputs : NULL;
    to->left -= columns;
}

// As many tiles of `columns` columns as are left.
EMX_INLINE void emx_conv2d_columns_f32(const emx_conv2d_f32_t *p, int pixels, int columns,
                                       const emx_conv2d_at_t *at, emx_conv2d_walk_t *to)
{
    if (columns > 0) {
        while (to->left >= columns) {
            emx_conv2d_tile_f32(p, pixels, columns, EMX_LANES, at, to);
            emx_conv2d_step_f32(p, to, columns, columns * EMX_LANES);
        }
    }
}

// All output channels of a tile's pixels.
EMX_INLINE void emx_conv2d_pixels_f32(const emx_conv2d_f32_t *p, int pixels,
                                      const emx_conv2d_at_t *at, emx_conv2d_walk_t to)
{
    const int wide = EMX_WIDE_PIXEL ? pixels : EMX_TILE_PIXELS;
    for (int32_t g = 0; g < p->groups; g++) {
        to.left = p->out_c / p->groups / EMX_LANES;
        emx_conv2d_columns_f32(p, pixels, emx_tile_columns(wide, 0), at, &to);
        emx_conv2d_columns_f32(p, pixels, emx_tile_columns(wide, 1), at, &to);
        emx_conv2d_columns_f32(p, pixels, emx_tile_columns(wide, 2), at, &to);
        if (p->tail) {
            emx_conv2d_tile_f32(p, pixels, 1, p->tail, at, &to);
            emx_conv2d_step_f32(p, &to, 1, p->tail);
        }
        to.x += p->in_c / p->groups * p->x_chan;
    }
}

// The tile at ox; returns the number of its pixels.
EMX_INLINE int32_t emx_conv2d_next_f32(const emx_conv2d_f32_t *p, int32_t ox, emx_taps_t ky,
                                       emx_conv2d_walk_t to)
{
    const float *const zeros = to.b + p->out_c;
    const int32_t ix = ox * p->stride_w - p->pad_left;
    const int32_t last =
        ix + (EMX_TILE_PIXELS - 1) * p->stride_w + (p->kernel_w - 1) * p->dilation_w;
    const int32_t left = p->out_w - ox;
    to.x += ix * p->x_col;
    to.y += ox * p->out_c;
    to.skip = to.skip ? to.skip + ox * p->out_c : NULL;
    if (left >= EMX_TILE_PIXELS && ix >= 0 && last < p->in_w) {
        const emx_conv2d_at_t at = {ix, ky, {0, p->kernel_w}, EMX_TILE_PIXELS, 0, NULL};
        emx_conv2d_pixels_f32(p, EMX_TILE_PIXELS, &at, to);
        return EMX_TILE_PIXELS;
    }
    if (p->edges && left > 1) {
        const int32_t valid = emx_min_s32(left, EMX_TILE_PIXELS);
        const emx_conv2d_at_t at = {ix, ky, {0, p->kernel_w}, valid, 1, zeros};
        emx_conv2d_pixels_f32(p, EMX_TILE_PIXELS, &at, to);
        return valid;
    }
    const emx_conv2d_at_t at = {ix, ky, emx_taps(ix, p->dilation_w, p->kernel_w, p->in_w),
                                1,  0,  NULL};
    emx_conv2d_pixels_f32(p, 1, &at, to);
    return 1;
}

EMX_INLINE void emx_conv2d_add_f32(const emx_conv2d_f32_t *p, const float *x, const float *skip,
                                   const float *w, const float *b, float *y)
{
    const int32_t row = p->out_w * p->out_c;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            const int32_t iy = oy * p->stride_h - p->pad_top;
            const emx_taps_t ky = emx_taps(iy, p->dilation_h, p->kernel_h, p->in_h);
            const emx_conv2d_walk_t to = {x + iy * p->x_row, w, b, skip, y, 0};
            for (int32_t ox = 0; ox < p->out_w;) {
                ox += emx_conv2d_next_f32(p, ox, ky, to);
            }
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
