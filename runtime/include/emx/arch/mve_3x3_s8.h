// SPDX-License-Identifier: Apache-2.0
// 3x3 depthwise layers with Helium: the ring of arch/mve_plane_s8.h, but one copy of code for all
// layers of a model, the inner loops in assembly.
//
// Where both strides are 1, a patch of four columns by four rows has 2x2 outputs: with the filter,
// and with that moved by a column, by a row, and by both. So rows of y are computed two at a time.
// Otherwise a patch has one output, and four of a row are requantised together.
#ifndef EMX_ARCH_MVE_3X3_S8_H
#define EMX_ARCH_MVE_3X3_S8_H
#include <arm_mve.h>
#include <emx/plane_s8.h>

#define EMX_HAVE_plane_quick_s8

// What the assembly is told. In scratch are a column of zeros, the filter and the ring.
typedef struct {
    int32_t b, m, start, k;  // of the channel: what makes results of sums
    int32_t step;            // of y, in the loop
    const uint32_t *offset;  // of four results in y
    int32_t next;            // of results outside the loop: the row below, or the next pixel
    int32_t left;            // results of a row outside the loop
    int32_t rounds;          // of the loop
    int32_t used, x_step;    // pixels of a row of x, eight of them
    uint32_t offsets[2][4];  // of two rows of results; of one, or of results 0, 2, 1, 3 of a row
    uint16_t from[8], to[8]; // of eight pixels in x, and in the ring
} emx_plane_state_s8_t;

EMX_STATIC_ASSERT(sizeof(emx_plane_state_s8_t) == 108, "the assembly counts bytes");

// Sums in q1 become results. The number is vqshrnb.s32 q1, q1, #9, see arch/mve_s8.h.
#define EMX_3X3_RESULTS                                                                            \
    "vadd.i32 q1, q1, r4\n\tvshl.s32 q1, r8\n\tvmulh.s32 q1, q1, q2\n\tvadd.i32 q1, q1, r6\n\t"    \
    ".inst.w 0xee972f42\n\tvqmovnb.s16 q1, q1\n\t"
#define EMX_3X3_STORE EMX_3X3_RESULTS "vstrb.32 q1, [r3, q3]\n\tadd r3, r3, r9\n\t"
#define EMX_3X3_START                                                                              \
    "ldrd r4, r5, [r2]\n\tldrd r6, r8, [r2, #8]\n\tldrd r9, r10, [r2, #16]\n\tvdup.32 q2, r5\n\t"  \
    "vldrw.u32 q3, [r10]\n\tldrd r10, r12, [r2, #24]\n\tldr r2, [r2, #32]\n\twls lr, r2, 2f\n"
// The sum of a patch and filter q4; `next` bytes of the ring later another.
#define EMX_3X3_ONE(sum, next) "vldrb.8 q0, [r1], #" next "\n\tvmladav.s8 " sum ", q0, q4\n\t"
#define EMX_3X3_FOURS(next)                                                                        \
    "vldrw.u32 q4, [r0]\n\t" EMX_3X3_START "1:\n\t" EMX_3X3_ONE("r0", next)                        \
        EMX_3X3_ONE("r2", next) "vmov q1[2], q1[0], r0, r2\n\t" EMX_3X3_ONE("r0", next)            \
            EMX_3X3_ONE("r2", next) "vmov q1[3], q1[1], r0, r2\n\t" EMX_3X3_STORE "le lr, 1b\n"    \
                                    "2:\n\tcmp r12, #0\n\tbeq 4f\n"                                \
                                    "3:\n\t" EMX_3X3_ONE(                                          \
                                        "r0", next) "vmov.32 q1[0], r0\n\t" EMX_3X3_RESULTS        \
                                                    "vmov.32 r0, q1[0]\n\tstrb r0, [r3]\n\tadd "   \
                                                    "r3, r3, r10\n\tsubs r12, r12, #1\n\tbne 3b\n" \
                                                    "4:"
#define EMX_3X3_SQUARES                                                                            \
    "vldrw.u32 q4, [r0]\n\tvldrw.u32 q5, [r0, #16]\n\t"                                            \
    "vldrw.u32 q6, [r0, #32]\n\tvldrw.u32 q7, [r0, #48]\n\t" EMX_3X3_START "1:\n\t"                \
    "vldrb.8 q0, [r1], #8\n\t"                                                                     \
    "vmladav.s8 r0, q0, q4\n\tvmladav.s8 r2, q0, q6\n\tvmov q1[2], q1[0], r0, r2\n\t"              \
    "vmladav.s8 r0, q0, q5\n\tvmladav.s8 r2, q0, q7\n\tvmov q1[3], q1[1], r0, "                    \
    "r2\n\t" EMX_3X3_STORE "le lr, 1b\n"                                                           \
    "2:\n\tcmp r12, #0\n\tbeq 3f\n\t"                                                              \
    "vldrb.8 q0, [r1]\n\tvmladav.s8 r0, q0, q4\n\tvmladav.s8 r2, q0, q6\n\t"                       \
    "vmov q1[2], q1[0], r0, r2\n\t" EMX_3X3_RESULTS "vmov.32 r0, q1[0]\n\tvmov.32 r2, q1[2]\n\t"   \
    "strb r0, [r3]\n\tstrb r2, [r3, r10]\n"                                                        \
    "3:"

#define EMX_3X3_ASM(text)                                                                          \
    register const int8x16_t *w_ __asm__("r0") = w;                                                \
    register const int8_t *x_ __asm__("r1") = x;                                                   \
    register const emx_plane_state_s8_t *q_ __asm__("r2") = q;                                     \
    register int8_t *y_ __asm__("r3") = y;                                                         \
    __asm__ volatile(text                                                                          \
                     : "+r"(w_), "+r"(x_), "+r"(q_), "+r"(y_)                                      \
                     :                                                                             \
                     : "r4", "r5", "r6", "r8", "r9", "r10", "r12", "lr", "d0", "d1", "d2", "d3",   \
                       "d4", "d5", "d6", "d7", "d8", "d9", "d10", "d11", "d12", "d13", "d14",      \
                       "d15", "cc", "memory")

// Two rows of outputs y from the ring at x, or one twice.
EMX_SHARED void emx_3x3_squares_s8(const emx_plane_state_s8_t *q, const int8_t *x,
                                   const int8x16_t w[4], int8_t *y)
{
    EMX_3X3_ASM(EMX_3X3_SQUARES);
}

// A row of outputs of stride 1, or 2.
EMX_SHARED void emx_3x3_row_1_s8(const emx_plane_state_s8_t *q, const int8_t *x, const int8x16_t *w,
                                 int8_t *y)
{
    EMX_3X3_ASM(EMX_3X3_FOURS("4"));
}

EMX_SHARED void emx_3x3_row_2_s8(const emx_plane_state_s8_t *q, const int8_t *x, const int8x16_t *w,
                                 int8_t *y)
{
    EMX_3X3_ASM(EMX_3X3_FOURS("8"));
}

EMX_INLINE bool emx_3x3_by_two_s8(const emx_plane_s8_t *p)
{
    return p->stride_h == 1 && p->stride_w == 1;
}

// Before all channels.
EMX_INLINE void emx_plane_start_quick_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q)
{
    const bool by_two = emx_3x3_by_two_s8(p);
    const uint32_t col = (uint32_t)p->y_col, row = (uint32_t)p->y_row;
    const uint32x4_t rows = {0, col, row, row + col};
    const uint32x4_t one = {0, by_two ? col : 2 * col, by_two ? 0 : col, by_two ? col : 3 * col};
    const uint16x8_t index = vidupq_n_u16(0, 1);
    q->step = by_two ? 2 * p->y_col : 4 * p->y_col;
    q->left = by_two ? p->out_w % 2 : p->out_w % 4;
    q->rounds = by_two ? p->out_w / 2 : p->out_w / 4;
    q->used = p->used;
    q->x_step = 8 * p->x_col;
    vstrwq_u32(q->offsets[0], rows);
    vstrwq_u32(q->offsets[1], one);
    vstrhq_u16(q->from, vmulq_n_u16(index, (uint16_t)p->x_col));
    vstrhq_u16(q->to, vshlq_n_u16(index, 2));
}

// The parameters of a channel, and its filters: w[i] moved, w[4 + i] for a ring whose first row is
// in slot 2; or w[i] for one whose first row is in slot i.
EMX_INLINE void emx_3x3_channel_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q,
                                   const emx_channel_s8_t *c, int8_t *zeros, int8x16_t w[8])
{
    int8_t *const to = zeros + 4;
    const int8_t *const from = c->w;
    EMX_UNROLL
    for (int i = 0; i < 9; i++) {
        to[i % 3 * 4 + i / 3] = from[4 * i];
    }
    q->b = c->b;
    q->m = c->m;
    q->start = c->start;
    q->k = emx_left_of(c->m);
    const int8x16_t filter = vldrbq_s8(to), right = vldrbq_s8(zeros);
    const uint32x4_t a = vreinterpretq_u32_s8(filter), b = vreinterpretq_u32_s8(right);
    w[0] = filter;
    if (emx_3x3_by_two_s8(p)) {
        w[1] = right;
        w[2] = vreinterpretq_s8_u32(vshlq_n_u32(a, 8));
        w[3] = vreinterpretq_s8_u32(vshlq_n_u32(b, 8));
        EMX_UNROLL
        for (int i = 0; i < 4; i++) {
            w[4 + i] = emx_plane_rotated_s8(w[i], 2);
        }
    } else {
        EMX_UNROLL
        for (int i = 1; i < 4; i++) {
            w[i] = emx_plane_rotated_s8(filter, i);
        }
    }
}

// One row of outputs, or two, whose first row of x is row t of those staged.
EMX_INLINE void emx_3x3_rows_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q,
                                const int8_t *ring, int8x16_t w[8], int32_t t, int32_t rows,
                                int8_t *y)
{
    if (!emx_3x3_by_two_s8(p)) {
        q->offset = q->offsets[1];
        q->next = p->y_col;
        if (p->stride_w == 1) {
            emx_3x3_row_1_s8(q, ring, w + (t & 3), y);
        } else {
            emx_3x3_row_2_s8(q, ring, w + (t & 3), y);
        }
        return;
    }
    w += 2 * (t & 2);
    q->offset = q->offsets[rows == 2 ? 0 : 1];
    q->next = rows == 2 ? p->y_row : 0;
    if (rows == 1) {
        w[2] = w[0];
        w[3] = w[1];
    }
    emx_3x3_squares_s8(q, ring, w, y);
}

EMX_SHARED void emx_plane_quick_s8(const emx_plane_s8_t *p, emx_plane_state_s8_t *q,
                                   const emx_channel_s8_t *c, const int8_t *x, int8_t *scratch,
                                   int8_t *y)
{
    int8_t *const ring = scratch + 20, *const row = ring + 4 * p->pad_left;
    const int32_t rows = emx_3x3_by_two_s8(p) ? 2 : 1;
    int8x16_t w[8];
    emx_3x3_channel_s8(p, q, c, scratch, w);
    int32_t staged = 0; // rows of the padded image
    x -= p->pad_top * p->x_row;
    for (int32_t left = p->out_h, t = 0; left > 0; left -= rows) {
        const int32_t wanted = emx_min_s32(rows, left), end = t + wanted + 2;
        for (; staged < end; staged++) {
            int8_t *const to = row + (staged & 3);
            if (staged >= p->pad_top && staged < p->pad_top + p->in_h) {
                emx_plane_copy_s8(to, vldrhq_u16(q->to), x, vldrhq_u16(q->from), q->x_step,
                                  q->used);
            } else {
                emx_plane_blank_s8(to, vldrhq_u16(q->to), p->x_zero, q->used);
            }
            x += p->x_row;
        }
        emx_3x3_rows_s8(p, q, ring, w, t, wanted, y);
        t += rows * p->stride_h;
        y += rows * p->y_row;
    }
}

#endif
