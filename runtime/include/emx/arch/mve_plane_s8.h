// SPDX-License-Identifier: Apache-2.0
// Depthwise layers with Helium: a patch of four columns by four rows is a vector, and its products
// with a filter are summed by one instruction.
//
// The ring has four rows; the bytes of a column lie beside each other, so a patch is read at any
// column. A filter is a vector too, or several if it has more than four columns. As the rows of the
// ring take turns, it is rotated.
#ifndef EMX_ARCH_MVE_PLANE_S8_H
#define EMX_ARCH_MVE_PLANE_S8_H
#include <arm_mve.h>
#include <emx/plane_s8.h>

#define EMX_HAVE_plane_s8

enum {
    EMX_PLANE_FILTERS = 4, // vectors of a filter, at most
};

EMX_INLINE int32_t emx_plane_rows_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 1;
}

EMX_INLINE int32_t emx_plane_slots_s8(const emx_plane_s8_t *p)
{
    (void)p;
    return 4;
}

EMX_INLINE int32_t emx_plane_filters_s8(const emx_plane_s8_t *p)
{
    return (emx_plane_reach_w_s8(p) + 3) / 4;
}

EMX_INLINE int8_t *emx_plane_ring_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    return scratch + (p->quick ? 20 : 16 * emx_plane_filters_s8(p));
}

// Columns of the ring: those of all patches.
EMX_INLINE int32_t emx_plane_width_s8(const emx_plane_s8_t *p)
{
    return (p->out_w - 1) * p->stride_w + 4 * emx_plane_filters_s8(p);
}

EMX_INLINE void emx_plane_start_s8(const emx_plane_s8_t *p, int8_t *scratch)
{
    int8_t *const ring = emx_plane_ring_s8(p, scratch);
    memset(scratch, 0, (size_t)(ring - scratch));
    memset(ring, p->x_zero, (size_t)(4 * emx_plane_width_s8(p)));
}

EMX_INLINE void emx_plane_weights_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                     int8_t *scratch)
{
    for (int32_t i = 0; i < p->kernel_h; i++) {
        for (int32_t j = 0; j < p->kernel_w; j++) {
            scratch[4 * j * p->dilation_w + i * p->dilation_h] = c->w[4 * (i * p->kernel_w + j)];
        }
    }
}

// `n` pixels of x, at steps of x_col, or all x_zero, into a row of the ring: `next` is 0, 4, ...
EMX_INLINE void emx_plane_copy_s8(int8_t *to, uint16x8_t next, const int8_t *x, uint16x8_t from,
                                  int32_t step, int32_t n)
{
    __asm__ volatile("wlstp.16 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrb.u16 q0, [%[x], %q[from]]\n\t"
                     "add %[x], %[x], %[step]\n\t"
                     "vstrb.16 q0, [%[to], %q[next]]\n\t"
                     "adds %[to], %[to], #32\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [x] "+r"(x), [to] "+l"(to)
                     : [n] "r"(n), [from] "w"(from), [next] "w"(next), [step] "r"(step)
                     : "lr", "d0", "d1", "cc", "memory");
}

EMX_INLINE void emx_plane_blank_s8(int8_t *to, uint16x8_t next, int32_t x_zero, int32_t n)
{
    __asm__ volatile("wlstp.16 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vstrb.16 %q[v], [%[to], %q[next]]\n\t"
                     "adds %[to], %[to], #32\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [to] "+l"(to)
                     : [n] "r"(n), [next] "w"(next), [v] "w"(vdupq_n_s16((int16_t)x_zero))
                     : "lr", "cc", "memory");
}

EMX_INLINE void emx_plane_stage_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t slot,
                                   bool inside, const int8_t *x)
{
    int8_t *const to = emx_plane_ring_s8(p, scratch) + 4 * p->pad_left + slot;
    const uint16x8_t index = vidupq_n_u16(0, 1), next = vshlq_n_u16(index, 2);
    if (inside) {
        emx_plane_copy_s8(to, next, x, vmulq_n_u16(index, (uint16_t)p->x_col), 8 * p->x_col,
                          p->used);
    } else {
        emx_plane_blank_s8(to, next, p->x_zero, p->used);
    }
}

// A filter for the ring whose first row is in the slot `first`: every column is rotated.
EMX_INLINE int8x16_t emx_plane_rotated_s8(int8x16_t filter, int32_t first)
{
    if (first & 1) {
        const uint32x4_t v = vreinterpretq_u32_s8(filter);
        filter = vreinterpretq_s8_u32(vsriq_n_u32(vshlq_n_u32(v, 8), v, 24));
    }
    return first & 2 ? vreinterpretq_s8_s16(vrev32q_s16(vreinterpretq_s16_s8(filter))) : filter;
}

// Four sums as a vector.
EMX_INLINE int32x4_t emx_plane_four_s8(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32x4_t v;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n\t"
            "vmov %q0[3], %q0[1], %2, %4"
            : "=&w"(v)
            : "r"(a), "r"(b), "r"(c), "r"(d));
    return v;
}

// Four results of a channel, to y + offset.
EMX_INLINE void emx_plane_store_s8(const emx_plane_s8_t *p, const emx_channel_s8_t *c,
                                   int32x4_t sums, int8_t *y, uint32x4_t offset)
{
    int32x4_t v = vaddq_n_s32(sums, c->b);
    if (p->wide) {
        int32_t acc[4];
        uint32_t at[4];
        vstrwq_s32(acc, v);
        vstrwq_u32(at, offset);
        for (int i = 0; i < 4; i++) {
            y[at[i]] = (int8_t)emx_plane_result_s8(p, c, acc[i]);
        }
        return;
    }
    v = vmulhq_s32(vshlq_r_s32(v, emx_left_of(c->m)), vdupq_n_s32(c->m));
    v = vshrq_n_s32(vaddq_n_s32(v, c->start), EMX_SCALE_SHIFT);
    v = vmaxq_s32(vminq_s32(v, vdupq_n_s32(p->in.hi)), vdupq_n_s32(p->in.lo));
    vstrbq_scatter_offset_s32(y, offset, v);
}

EMX_INLINE int32_t emx_plane_sum_s8(const int8_t *x, const int8x16_t *filter, int32_t filters)
{
    int32_t sum = 0;
    EMX_UNROLL
    for (int i = 0; i < EMX_PLANE_FILTERS; i++) {
        if (i < filters) {
            sum = vmladavaq_s8(sum, vldrbq_s8(x + 16 * i), filter[i]);
        }
    }
    return sum;
}

// n <= 4 outputs of any kernel; those beyond are the last one once more.
EMX_INLINE void emx_plane_outputs_s8(const emx_plane_s8_t *p, const int8_t *x,
                                     const int8x16_t *filter, const emx_channel_s8_t *c, int8_t *y,
                                     int32_t n)
{
    const uint32x4_t index = vminq_u32(vidupq_n_u32(0, 1), vdupq_n_u32((uint32_t)n - 1));
    int32_t sum[4];
    EMX_UNROLL
    for (int i = 0; i < 4; i++) {
        sum[i] = emx_plane_sum_s8(x + emx_min_s32(i, n - 1) * 4 * p->stride_w, filter,
                                  emx_plane_filters_s8(p));
    }
    emx_plane_store_s8(p, c, emx_plane_four_s8(sum[0], sum[1], sum[2], sum[3]), y,
                       vmulq_n_u32(index, (uint32_t)p->y_col));
}

EMX_INLINE void emx_plane_row_s8(const emx_plane_s8_t *p, int8_t *scratch, int32_t first,
                                 const emx_channel_s8_t *c, int8_t *y, int32_t rows)
{
    const int8_t *x = emx_plane_ring_s8(p, scratch);
    int32_t ox = 0;
    int8x16_t filter[EMX_PLANE_FILTERS];
    (void)rows;
    EMX_UNROLL
    for (int i = 0; i < EMX_PLANE_FILTERS; i++) {
        const bool used = i < emx_plane_filters_s8(p);
        filter[i] = emx_plane_rotated_s8(vldrbq_s8(scratch + (used ? 16 * i : 0)), first);
    }
    for (; ox + 4 <= p->out_w; ox += 4) {
        emx_plane_outputs_s8(p, x, filter, c, y, 4);
        x += 16 * p->stride_w;
        y += 4 * p->y_col;
    }
    if (ox < p->out_w) {
        emx_plane_outputs_s8(p, x, filter, c, y, p->out_w - ox);
    }
}

#endif
