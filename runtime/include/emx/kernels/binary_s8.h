// SPDX-License-Identifier: Apache-2.0
// y[i] = a[i] + b[i] with broadcasting, as emx/add_s8.h says (emx_binary_add_s8), or
// y[i] = requantise((a[i] - a_zero) * (b[i] - b_zero)) of emx/quant.h (emx_binary_mul_s8).
//
//   a, b  read at sum_d i[d]*a_step[d], sum_d i[d]*b_step[d]; a step of 0 repeats along an axis
//   y     [extent[0]]...[extent[3]], contiguous
//
// No scratch. Elements in ascending order of y, up to four at a time: each reads its operands, then
// is written, so y may start at an operand of its own shape, or before it.
#ifndef EMX_KERNELS_BINARY_S8_H
#define EMX_KERNELS_BINARY_S8_H
#include <emx/add_s8.h>
#include <emx/arch.h>
#include <emx/quant.h>

typedef struct {
    int32_t extent[4];
    int32_t a_step[4], b_step[4];
    int32_t wide;    // 1: products are requantised in 64 bits
    int32_t rule[7]; // EMX_ADD_PARAMS of a sum, EMX_MUL_PARAMS of a product
} emx_binary_s8_t;

enum {
    EMX_MUL_A_ZERO,
    EMX_MUL_B_ZERO,
    EMX_MUL_M,
    EMX_MUL_SHIFT, // to the left, as emx_requantise_s8 takes it; to the right if `wide`
    EMX_MUL_ZERO,
    EMX_MUL_LO,
    EMX_MUL_HI,
    EMX_MUL_PARAMS
};

EMX_STATIC_ASSERT((int)EMX_ADD_PARAMS == 7 && (int)EMX_MUL_PARAMS == 7, "what `rule` has room for");

EMX_INLINE int32_t emx_binary_product_s8(const emx_binary_s8_t *p, int32_t a, int32_t b)
{
    const int32_t *const r = p->rule;
    const emx_result_s8_t to = {r[EMX_MUL_ZERO], r[EMX_MUL_LO], r[EMX_MUL_HI]};
    const int32_t acc = (a - r[EMX_MUL_A_ZERO]) * (b - r[EMX_MUL_B_ZERO]);
    return p->wide ? emx_requantise_wide_s8(acc, r[EMX_MUL_M], r[EMX_MUL_SHIFT], &to)
                   : emx_requantise_s8(acc, r[EMX_MUL_M], r[EMX_MUL_SHIFT], &to);
}

// The innermost axis.
EMX_INLINE void emx_binary_row_s8(const emx_binary_s8_t *p, int mul, const int8_t *a,
                                  const int8_t *b, int8_t *y)
{
    const int32_t n = p->extent[3];
    int32_t i = 0;
    if (!mul && p->a_step[3] == 1 && p->b_step[3] == 1) {
        for (; i + 4 <= n; i += 4) {
            emx_add_4_s8(p->rule, a + i, b + i, y + i);
        }
    }
    for (; i < n; i++) {
        const int32_t u = a[i * p->a_step[3]], v = b[i * p->b_step[3]];
        y[i] = (int8_t)(mul ? emx_binary_product_s8(p, u, v) : emx_add_s8(p->rule, u, v));
    }
}

EMX_INLINE void emx_binary_s8(const emx_binary_s8_t *p, int mul, const int8_t *a, const int8_t *b,
                              int8_t *y)
{
    const int32_t *const s = p->a_step;
    const int32_t *const t = p->b_step;
    for (int32_t i = 0; i < p->extent[0]; i++) {
        for (int32_t j = 0; j < p->extent[1]; j++) {
            for (int32_t k = 0; k < p->extent[2]; k++) {
                emx_binary_row_s8(p, mul, a + (i * s[0] + j * s[1] + k * s[2]),
                                  b + (i * t[0] + j * t[1] + k * t[2]), y);
                y += p->extent[3];
            }
        }
    }
}

EMX_INLINE void emx_binary_add_s8(const emx_binary_s8_t *p, const int8_t *a, const int8_t *b,
                                  int8_t *y)
{
    emx_binary_s8(p, 0, a, b, y);
}

EMX_INLINE void emx_binary_mul_s8(const emx_binary_s8_t *p, const int8_t *a, const int8_t *b,
                                  int8_t *y)
{
    emx_binary_s8(p, 1, a, b, y);
}

#endif
