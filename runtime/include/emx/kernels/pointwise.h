// SPDX-License-Identifier: Apache-2.0
// y[i] = f(a[i], b[i], ...) with broadcasting: operand k is read at sum_d i[d]*step_k[d].
//
//   y  [extent[0]]...[extent[3]], contiguous; a step of 0 repeats an operand along that axis.
//
// f is a scalar function made of the table of python/emx/ops/pointwise.py. No scratch. Elements in
// ascending order of y: each reads its operands, then writes, so y may
// start at an operand of its own shape, or before it; it must not overlap another.
#ifndef EMX_KERNELS_POINTWISE_H
#define EMX_KERNELS_POINTWISE_H
#include <emx/scalar.h>

typedef struct {
    int32_t extent[4];
    int32_t step_a[4], step_b[4], step_c[4];
} emx_pointwise_f32_t;

typedef struct {
    int32_t a, b, c;
} emx_pointwise_at_t;

// Offsets of the three operands at the outer indices i, j, k.
EMX_INLINE emx_pointwise_at_t emx_pointwise_at(const emx_pointwise_f32_t *p, int32_t i, int32_t j,
                                               int32_t k)
{
    emx_pointwise_at_t at;
    at.a = i * p->step_a[0] + j * p->step_a[1] + k * p->step_a[2];
    at.b = i * p->step_b[0] + j * p->step_b[1] + k * p->step_b[2];
    at.c = i * p->step_c[0] + j * p->step_c[1] + k * p->step_c[2];
    return at;
}

EMX_INLINE void emx_pointwise1_f32(const emx_pointwise_f32_t *p, float (*f)(float), const float *a,
                                   float *y)
{
    for (int32_t i = 0; i < p->extent[0]; i++) {
        for (int32_t j = 0; j < p->extent[1]; j++) {
            for (int32_t k = 0; k < p->extent[2]; k++) {
                const emx_pointwise_at_t at = emx_pointwise_at(p, i, j, k);
                for (int32_t l = 0; l < p->extent[3]; l++) {
                    *y++ = f(a[at.a + l * p->step_a[3]]);
                }
            }
        }
    }
}

EMX_INLINE void emx_pointwise2_f32(const emx_pointwise_f32_t *p, float (*f)(float, float),
                                   const float *a, const float *b, float *y)
{
    for (int32_t i = 0; i < p->extent[0]; i++) {
        for (int32_t j = 0; j < p->extent[1]; j++) {
            for (int32_t k = 0; k < p->extent[2]; k++) {
                const emx_pointwise_at_t at = emx_pointwise_at(p, i, j, k);
                for (int32_t l = 0; l < p->extent[3]; l++) {
                    *y++ = f(a[at.a + l * p->step_a[3]], b[at.b + l * p->step_b[3]]);
                }
            }
        }
    }
}

EMX_INLINE void emx_pointwise3_f32(const emx_pointwise_f32_t *p, float (*f)(float, float, float),
                                   const float *a, const float *b, const float *c, float *y)
{
    for (int32_t i = 0; i < p->extent[0]; i++) {
        for (int32_t j = 0; j < p->extent[1]; j++) {
            for (int32_t k = 0; k < p->extent[2]; k++) {
                const emx_pointwise_at_t at = emx_pointwise_at(p, i, j, k);
                for (int32_t l = 0; l < p->extent[3]; l++) {
                    *y++ = f(a[at.a + l * p->step_a[3]], b[at.b + l * p->step_b[3]],
                             c[at.c + l * p->step_c[3]]);
                }
            }
        }
    }
}

#endif
