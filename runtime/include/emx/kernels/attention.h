// SPDX-License-Identifier: Apache-2.0
// y[l] = sum_s p[l][s] * v[s], p[l] = softmax_s(scale * sum_e q[l][e] * k[s][e] + mask[l][s]),
// for every head of a batch
//
//   q  [batch]...[rows][dim]     k  [batch]...[keys][dim]     v  [batch]...[keys][out]
//   mask  [batch]...[rows][keys]     y  [batch]...[rows][out]
//   each with three batch axes and a step for every axis (_row and _col for the last two)
//   scratch  float [block][keys rounded up to 4], the scores of `block` rows, and
//            float [max(dim, keys)][4], four columns of k or v
//
// causal: row l sees the keys s <= l only. A row that sees none, or only scores of -infinity, is 0.
// Sums run over e, and over s, in ascending order. y must not overlap anything.
#ifndef EMX_KERNELS_ATTENTION_H
#define EMX_KERNELS_ATTENTION_H
#include <emx/panel.h>
#include <emx/scalar.h>

typedef struct {
    int32_t batch[3], q_batch[3], k_batch[3], v_batch[3], mask_batch[3], y_batch[3];
    int32_t rows, keys, dim, out;
    int32_t block, causal;
    int32_t q_start, q_row, q_col;
    int32_t k_start, k_row, k_col;
    int32_t v_start, v_row, v_col;
    int32_t mask_start, mask_row, mask_col;
    int32_t y_row, y_col;
    float scale;
} emx_attention_f32_t;

// One row of scores to probabilities: of the first `seen` keys, the others up to `keys` get 0.
EMX_INLINE void emx_attention_softmax_f32(const emx_attention_f32_t *p, float *score, int32_t seen,
                                          int32_t keys, const float *mask)
{
    float max = -INFINITY;
    for (int32_t s = 0; s < seen; s++) {
        const float v = score[s] * p->scale + (mask ? mask[s * p->mask_col] : 0.0f);
        score[s] = v;
        max = emx_max_f32(v, max);
    }
    if (max == -INFINITY) {
        seen = 0;
    }
    float sum = 0.0f;
    for (int32_t s = 0; s < seen; s++) {
        score[s] = emx_exp_negative_f32(score[s] - max);
        sum += score[s];
    }
    const float scale = 1.0f / sum;
    for (int32_t s = 0; s < keys; s++) {
        score[s] = s < seen ? score[s] * scale : 0.0f;
    }
}

// `rows` rows of one head, the first of which sees `seen` keys.
EMX_INLINE void emx_attention_block_f32(const emx_attention_f32_t *p, int32_t rows, int32_t seen,
                                        emx_matrix_f32_t q, emx_matrix_f32_t k, emx_matrix_f32_t v,
                                        const float *mask, float *scratch, float *y)
{
    const int32_t width = (p->keys + 3) / 4 * 4;
    const int32_t keys = p->causal ? emx_min_s32(p->keys, seen + rows - 1) : p->keys;
    float *const w = scratch + p->block * width;
    for (int32_t s = 0; s < keys; s += 4) {
        emx_panel_pack_f32(w, k, p->dim, s, emx_min_s32(4, keys - s));
        emx_panel_rows_f32(scratch + s, width, 1, rows, 4, q, w, p->dim);
    }
    for (int32_t i = 0; i < rows; i++) {
        emx_attention_softmax_f32(p, scratch + i * width,
                                  p->causal ? emx_min_s32(keys, seen + i) : keys, keys,
                                  mask ? mask + i * p->mask_row : NULL);
    }
    const emx_matrix_f32_t scores = {scratch, width, 1};
    for (int32_t o = 0; o < p->out; o += 4) {
        const int32_t lanes = emx_min_s32(4, p->out - o);
        emx_panel_pack_f32(w, v, keys, o, lanes);
        emx_panel_rows_f32(y + o * p->y_col, p->y_row, p->y_col, rows, lanes, scores, w, keys);
    }
}

// One head.
EMX_INLINE void emx_attention_head_f32(const emx_attention_f32_t *p, const float *q, const float *k,
                                       const float *v, const float *mask, float *scratch, float *y)
{
    const emx_matrix_f32_t keys = {k, p->k_col, p->k_row}; // transposed
    const emx_matrix_f32_t values = {v, p->v_row, p->v_col};
    for (int32_t l = 0; l < p->rows; l += p->block) {
        const emx_matrix_f32_t rows = {q + l * p->q_row, p->q_row, p->q_col};
        emx_attention_block_f32(p, emx_min_s32(p->block, p->rows - l), l + 1, rows, keys, values,
                                mask ? mask + l * p->mask_row : NULL, scratch, y + l * p->y_row);
    }
}

EMX_INLINE int32_t emx_attention_at(const int32_t step[3], int32_t i, int32_t j, int32_t k)
{
    return i * step[0] + j * step[1] + k * step[2];
}

EMX_INLINE void emx_attention_mask_f32(const emx_attention_f32_t *p, const float *q, const float *k,
                                       const float *v, const float *mask, void *scratch, float *y)
{
    for (int32_t a = 0; a < p->batch[0]; a++) {
        for (int32_t b = 0; b < p->batch[1]; b++) {
            for (int32_t c = 0; c < p->batch[2]; c++) {
                const int32_t at = p->mask_start + emx_attention_at(p->mask_batch, a, b, c);
                emx_attention_head_f32(p, q + p->q_start + emx_attention_at(p->q_batch, a, b, c),
                                       k + p->k_start + emx_attention_at(p->k_batch, a, b, c),
                                       v + p->v_start + emx_attention_at(p->v_batch, a, b, c),
                                       mask ? mask + at : NULL, (float *)scratch,
                                       y + emx_attention_at(p->y_batch, a, b, c));
            }
        }
    }
}

EMX_INLINE void emx_attention_f32(const emx_attention_f32_t *p, const float *q, const float *k,
                                  const float *v, void *scratch, float *y)
{
    emx_attention_mask_f32(p, q, k, v, NULL, scratch, y);
}

#endif
