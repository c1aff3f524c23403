// SPDX-License-Identifier: Apache-2.0
// y[n][i][k] = softmax of x[n][.][k] at i, or its logarithm, in integers. With d = max - x[n][i][k]
//
//   e[i] = powers[d >> 4] * powers[16 + d & 15] >> 32         e^(-d * scale) in 2^-28
//   v * 2^(t - 3) = sum of e, 2^31 <= v < 2^32, v rounded down; r = reciprocal(v) * a >> (31 + t)
//   y[n][i][k] = clamp(zero + floor((e[i] * r >> 32) / 2^s + 1/2))
//   logarithm: y[n][i][k] = clamp(zero + floor(-(d * a + ((log2(v) + t) * b >> 20)) / 2^s + 1/2))
//
//   x, y  [outer][len][inner]     powers  [32]
//
// reciprocal and log2 are those of emx/fixed.h. No scratch. Columns (n, k) one after the other, all
// of x before the first of y; so y may be x, and if inner is 1, start anywhere before it.
#ifndef EMX_KERNELS_SOFTMAX_S8_H
#define EMX_KERNELS_SOFTMAX_S8_H
#include <emx/fixed.h>
#include <emx/quant.h>

typedef struct {
    int32_t outer, len, inner;
    int32_t zero, lo, hi;
    int32_t a, b, s;
} emx_softmax_s8_t;

// What a column is measured by: its greatest element, and the sum of e as v * 2^(t - 3).
typedef struct {
    int32_t max, t;
    uint32_t v;
} emx_softmax_column_s8_t;

// e^(-d * scale) in 2^-28
EMX_INLINE uint32_t emx_softmax_exp_s8(const int32_t *powers, int32_t d)
{
    return emx_high_u32((uint32_t)powers[d >> 4], (uint32_t)powers[16 + (d & 15)]);
}

EMX_INLINE emx_softmax_column_s8_t emx_softmax_measure_s8(const emx_softmax_s8_t *p,
                                                          const int8_t *x, const int32_t *powers)
{
    int32_t max = x[0];
    for (int32_t i = 1; i < p->len; i++) {
        max = emx_max_s32(max, x[i * p->inner]);
    }
    uint64_t sum = 0;
    for (int32_t i = 0; i < p->len; i++) {
        sum += emx_softmax_exp_s8(powers, max - x[i * p->inner]);
    }
    sum *= 8;
    const int32_t t = emx_normalise_u64(&sum);
    const emx_softmax_column_s8_t c = {max, t, (uint32_t)sum};
    return c;
}

EMX_INLINE void emx_softmax_one_s8(const emx_softmax_s8_t *p, const int8_t *x,
                                   const int32_t *powers, int8_t *y)
{
    const emx_softmax_column_s8_t c = emx_softmax_measure_s8(p, x, powers);
    const uint32_t r = (uint32_t)((uint64_t)emx_reciprocal_u32(c.v) * (uint32_t)p->a >> 31 >> c.t);
    for (int32_t i = 0; i < p->len; i++) {
        const uint32_t e = emx_softmax_exp_s8(powers, c.max - x[i * p->inner]);
        const int32_t v = (int32_t)((emx_high_u32(e, r) + (1u << (p->s - 1))) >> p->s);
        y[i * p->inner] = (int8_t)emx_clamp_s32(v + p->zero, p->lo, p->hi);
    }
}

EMX_INLINE void emx_log_softmax_one_s8(const emx_softmax_s8_t *p, const int8_t *x,
                                       const int32_t *powers, int8_t *y)
{
    const emx_softmax_column_s8_t c = emx_softmax_measure_s8(p, x, powers);
    const uint64_t bits = emx_log2_u32(c.v) + ((uint32_t)c.t << 20);
    const int64_t of_sum = (int64_t)(bits * (uint32_t)p->b >> 20);
    for (int32_t i = 0; i < p->len; i++) {
        const int64_t d = c.max - x[i * p->inner];
        const int64_t v = emx_round_s64(-(d * p->a + of_sum), p->s);
        y[i * p->inner] = emx_clamp_s8(v, p->zero, p->lo, p->hi);
    }
}

EMX_INLINE void emx_softmax_s8(const emx_softmax_s8_t *p, const int8_t *x, const int32_t *powers,
                               int8_t *y)
{
    for (int32_t n = 0; n < p->outer; n++) {
        for (int32_t k = 0; k < p->inner; k++) {
            emx_softmax_one_s8(p, x + k, powers, y + k);
        }
        x += p->len * p->inner;
        y += p->len * p->inner;
    }
}

EMX_INLINE void emx_log_softmax_s8(const emx_softmax_s8_t *p, const int8_t *x,
                                   const int32_t *powers, int8_t *y)
{
    for (int32_t n = 0; n < p->outer; n++) {
        for (int32_t k = 0; k < p->inner; k++) {
            emx_log_softmax_one_s8(p, x + k, powers, y + k);
        }
        x += p->len * p->inner;
        y += p->len * p->inner;
    }
}

#endif
