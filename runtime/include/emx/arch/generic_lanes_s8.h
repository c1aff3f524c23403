// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of int8 that do the same to four neighbours, such as channels of a pixel.
// Results are the same to the bit everywhere.
#ifndef EMX_ARCH_GENERIC_LANES_S8_H
#define EMX_ARCH_GENERIC_LANES_S8_H
#include <emx/add_s8.h>
#include <emx/plane_s8.h>

#ifndef EMX_HAVE_add_4_s8
// y[i] = the sum of a[i] and b[i] for i < 4; y may be a or b, or lie before them
EMX_INLINE void emx_add_4_s8(const int32_t p[EMX_ADD_PARAMS], const int8_t *a, const int8_t *b,
                             int8_t *y)
{
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        y[i] = (int8_t)emx_add_s8(p, a[i], b[i]);
    }
}
#endif

#ifndef EMX_HAVE_sum_4_s8
// acc[c] += sum_t x[t * step + c] for t < n
EMX_INLINE void emx_sum_4_s8(int32_t acc[4], const int8_t *x, int32_t step, int32_t n)
{
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            acc[c] += x[t * step + c];
        }
    }
}
#endif

#ifndef EMX_HAVE_max_4_s8
// best[c] = max(best[c], x[t * step + c]) for t < n
EMX_INLINE void emx_max_4_s8(int8_t best[4], const int8_t *x, int32_t step, int32_t n)
{
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            best[c] = x[t * step + c] > best[c] ? x[t * step + c] : best[c];
        }
    }
}
#endif

#ifndef EMX_HAVE_mac_taps_s8
// acc[c] = b[c] + sum_t x[t][at + c] * w[t][c] for t < n and c < lanes <= 4; the other sums may get
// anything
EMX_INLINE void emx_mac_taps_s8(int32_t acc[4], const int32_t b[4], const int8_t *const *x,
                                int32_t at, const int8_t *w, int32_t n, int32_t lanes)
{
    EMX_UNROLL
    for (int c = 0; c < 4; c++) {
        acc[c] = b[c];
    }
    for (int32_t t = 0; t < n; t++) {
        EMX_UNROLL
        for (int c = 0; c < 4; c++) {
            if (c < lanes) {
                acc[c] += x[t][at + c] * w[4 * t + c];
            }
        }
    }
}
#endif

// n channels of a pixel from c0 on, scaled; w and q are those of their block.
EMX_INLINE void emx_block_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x, int32_t c0,
                                     const int8_t *w, const int32_t *q, int32_t n, int8_t *y)
{
    int32_t acc[EMX_BLOCK];
    emx_mac_taps_s8(acc, q + EMX_BLOCK_BIAS, x, c0, w, p->taps, n);
    if (p->wide) {
        for (int32_t c = 0; c < n; c++) {
            const int32_t m = q[EMX_BLOCK_M + 2 * c], start = q[EMX_BLOCK_START + 2 * c];
            y[c0 + c] = (int8_t)emx_scale_wide_s8((int64_t)acc[c] * m, m, start, &p->in);
        }
    } else {
        emx_scale_4_s8(y + c0, acc, q, &p->in, n);
    }
}

#ifndef EMX_HAVE_whole_of_taps_s8
// All whole blocks of the channels of a pixel, if the return value, a constant, is true.
EMX_INLINE bool emx_whole_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x,
                                     const int8_t *w, const int32_t *q, int8_t *y)
{
    (void)p;
    (void)x;
    (void)w;
    (void)q;
    (void)y;
    return false;
}
#endif

// y[c] = scale(b[c] + sum_t x[t][c] * w[t][c]) for all channels of a pixel
EMX_INLINE void emx_blocks_of_taps_s8(const emx_taps_s8_t *p, const int8_t *const *x,
                                      const int8_t *w, const int32_t *q, int8_t *y)
{
    const int32_t whole = p->channels - p->tail;
    if (!emx_whole_of_taps_s8(p, x, w, q, y)) {
        for (int32_t c = 0; c < whole; c += EMX_BLOCK) {
            emx_block_of_taps_s8(p, x, c, w + c * p->taps, q + c / EMX_BLOCK * EMX_BLOCK_PARAMS,
                                 EMX_BLOCK, y);
        }
    }
    if (p->tail) {
        emx_block_of_taps_s8(p, x, whole, w + whole * p->taps,
                             q + whole / EMX_BLOCK * EMX_BLOCK_PARAMS, p->tail, y);
    }
}

#endif
