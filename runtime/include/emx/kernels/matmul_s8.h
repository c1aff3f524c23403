// SPDX-License-Identifier: Apache-2.0
// y[m][n] = scale(sum_k (a[m][k] - a_zero) * (b[k][n] - b_zero)) for every matrix of a batch,
// scale() of emx/quant.h
//
//   a  [batch][batch][batch][m][k]     b  [batch][batch][batch][k][n]     y  [batch]...[m][n],
//   each with a step for every axis (_row and _col for the last two), a and b with a start
//   scratch  `columns` columns of b as arch/generic_s8.h has weights: parameters, int32
//            [columns/4][12], and weights, [columns/4][depth][4]; two rows of a, [2][depth]; if
//            EMX_STAGED is 4, the same as a pair, [depth][4]
//
// depth is k, padded to a multiple of EMX_DEPTH, columns a multiple of 4. k <= 2^15, so no sum
// leaves 32 bits. y must not overlap a or b.
#ifndef EMX_KERNELS_MATMUL_S8_H
#define EMX_KERNELS_MATMUL_S8_H
#include <emx/arch.h>
#include <emx/quant.h>

typedef struct {
    int32_t batch[3], a_batch[3], b_batch[3], y_batch[3];
    int32_t m, n, k, depth, columns;
    int32_t a_start, a_row, a_col;
    int32_t b_start, b_row, b_col;
    int32_t y_row, y_col;
    int32_t a_zero, b_zero;
    int32_t wide; // 1: sums are scaled in 64 bits
    int32_t mul;  // the multiplier, as those of a block
    int32_t zero, lo, hi;
} emx_matmul_s8_t;

// Where the parts of the scratch are.
typedef struct {
    int8_t *w;
    int32_t *q;
    int8_t *rows, *pair;
} emx_matmul_scratch_s8_t;

// The columns b[.][0 .. lanes) as a block of weights, with its parameters. What a column has in
// common, - a_zero * sum_k (b - b_zero), is the bias.
EMX_INLINE void emx_matmul_pack_s8(const emx_matmul_s8_t *p, const int8_t *b, int32_t lanes,
                                   int8_t *w, int32_t *q)
{
    for (int32_t o = 0; o < EMX_BLOCK; o++) {
        int32_t sum = 0;
        for (int32_t k = 0; k < p->depth; k++) {
            const int32_t v = o < lanes && k < p->k ? b[k * p->b_row + o * p->b_col] : 0;
            w[emx_weight_at_s8(k, o)] = (int8_t)v;
            sum += v;
        }
        q[EMX_BLOCK_BIAS + o] = p->a_zero * (p->k * p->b_zero - sum);
        q[EMX_BLOCK_M + 2 * o] = p->mul;
        q[EMX_BLOCK_START + 2 * o] = emx_result_start(p->zero);
    }
}

// Stages one or two rows of a; sums[i] = b_zero * sum_k a[i][k].
EMX_INLINE void emx_matmul_stage_s8(const emx_matmul_s8_t *p, const int8_t *a, int32_t rows,
                                    const emx_matmul_scratch_s8_t *s, int32_t sums[2])
{
    for (int32_t i = 0; i < rows; i++) {
        int32_t sum = 0;
        for (int32_t k = 0; k < p->depth; k++) {
            const int8_t v = k < p->k ? a[i * p->a_row + k * p->a_col] : 0;
            s->rows[i * p->depth + k] = v;
            sum += v;
        }
        sums[i] = p->b_zero * sum;
    }
    if (EMX_STAGED == 4 && rows == 2) {
        emx_stage_2_s8(s->pair, p->depth, 0, s->rows, s->rows + p->depth, p->depth);
    }
}

EMX_INLINE void emx_matmul_store_s8(const emx_matmul_s8_t *p, int32_t acc[4], int32_t sum,
                                    const int32_t *q, int8_t *y, int32_t lanes)
{
    const int32_t m = p->mul, start = emx_result_start(p->zero);
    const emx_bounds_s8_t in = {p->lo, p->hi};
    int8_t block[EMX_BLOCK];
    EMX_UNROLL
    for (int o = 0; o < EMX_BLOCK; o++) {
        acc[o] -= sum;
        if (p->wide) {
            block[o] = (int8_t)emx_scale_wide_s8((int64_t)acc[o] * m, m, start, &in);
        }
    }
    if (!p->wide) {
        emx_scale_4_s8(block, acc, q, &in, EMX_BLOCK);
    }
    for (int32_t o = 0; o < lanes; o++) {
        y[o * p->y_col] = block[o];
    }
}

// One or two rows of y by the packed columns, of which `columns` exist.
EMX_INLINE void emx_matmul_rows_s8(const emx_matmul_s8_t *p, int32_t rows, const int8_t *a,
                                   const emx_matmul_scratch_s8_t *s, int8_t *y, int32_t columns)
{
    int32_t sums[2];
    const int8_t *w = s->w;
    const int32_t *q = s->q;
    emx_matmul_stage_s8(p, a, rows, s, sums);
    for (int32_t n = 0; n < columns; n += EMX_BLOCK) {
        const int32_t lanes = emx_min_s32(columns - n, EMX_BLOCK);
        int32_t acc[2 * EMX_BLOCK];
        if (rows == 2) {
            emx_dot_2x4_s8(acc, q, EMX_STAGED == 4 ? s->pair : s->rows, w, p->depth);
            emx_matmul_store_s8(p, acc + EMX_BLOCK, sums[1], q, y + p->y_row + n * p->y_col, lanes);
        } else {
            emx_dot_1x4_s8(acc, q, s->rows, w, p->depth);
        }
        emx_matmul_store_s8(p, acc, sums[0], q, y + n * p->y_col, lanes);
        w += EMX_BLOCK * p->depth;
        q += EMX_BLOCK_PARAMS;
    }
}

// One matrix.
EMX_INLINE void emx_matmul_one_s8(const emx_matmul_s8_t *p, const int8_t *a, const int8_t *b,
                                  const emx_matmul_scratch_s8_t *s, int8_t *y)
{
    for (int32_t n = 0; n < p->n; n += p->columns) {
        const int32_t columns = emx_min_s32(p->columns, p->n - n);
        for (int32_t o = 0; o < columns; o += EMX_BLOCK) {
            emx_matmul_pack_s8(p, b + (n + o) * p->b_col, emx_min_s32(columns - o, EMX_BLOCK),
                               s->w + o * p->depth, s->q + o / EMX_BLOCK * EMX_BLOCK_PARAMS);
        }
        int32_t m = 0;
        for (; m + 1 < p->m; m += 2) {
            emx_matmul_rows_s8(p, 2, a + m * p->a_row, s, y + m * p->y_row + n * p->y_col, columns);
        }
        if (m < p->m) {
            emx_matmul_rows_s8(p, 1, a + m * p->a_row, s, y + m * p->y_row + n * p->y_col, columns);
        }
    }
}

EMX_INLINE void emx_matmul_s8(const emx_matmul_s8_t *p, const int8_t *a, const int8_t *b,
                              void *scratch, int8_t *y)
{
    const int32_t *const r = p->a_batch;
    const int32_t *const s = p->b_batch;
    const int32_t *const t = p->y_batch;
    int32_t *const q = (int32_t *)scratch;
    int8_t *const w = (int8_t *)(q + p->columns / EMX_BLOCK * EMX_BLOCK_PARAMS);
    int8_t *const rows = w + p->columns * p->depth;
    const emx_matmul_scratch_s8_t parts = {w, q, rows, rows + 2 * p->depth};
    for (int32_t i = 0; i < p->batch[0]; i++) {
        for (int32_t j = 0; j < p->batch[1]; j++) {
            for (int32_t k = 0; k < p->batch[2]; k++) {
                emx_matmul_one_s8(p, a + (p->a_start + i * r[0] + j * r[1] + k * r[2]),
                                  b + (p->b_start + i * s[0] + j * s[1] + k * s[2]), &parts,
                                  y + (i * t[0] + j * t[1] + k * t[2]));
            }
        }
    }
}

#endif
