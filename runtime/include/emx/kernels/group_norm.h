// SPDX-License-Identifier: Apache-2.0
// y[n][o][g][c][i] = (x[n][o][g][c][i] - mean) / sqrt(var + eps) * w[g][c] + b[g][c]
//
// mean and var are those of x[n][:][g], divided by the count of its elements.
//
//   x, y  [batch][outer][groups][chans][inner]     w, b  [groups][chans]
//
// No scratch. Two passes over a group for mean and variance, sums in the order of memory. Groups
// (n, g) one after the other, all of x[n][:][g] before the first of y there; so y may be x, and if
// outer is 1, start anywhere before it.
#ifndef EMX_KERNELS_GROUP_NORM_H
#define EMX_KERNELS_GROUP_NORM_H
#include <emx/emx.h>

typedef struct {
    int32_t batch, groups, outer, chans, inner;
    float eps;
} emx_group_norm_f32_t;

// The sum of (x - mean)^power over one group, power 1 or 2.
EMX_INLINE float emx_group_norm_sum_f32(const emx_group_norm_f32_t *p, const float *x, float mean,
                                        int power)
{
    const int32_t run = p->chans * p->inner;
    float sum = 0.0f;
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t i = 0; i < run; i++) {
            const float v = x[i] - mean;
            sum += power == 2 ? v * v : v;
        }
        x += p->groups * run;
    }
    return sum;
}

EMX_INLINE void emx_group_norm_one_f32(const emx_group_norm_f32_t *p, const float *x,
                                       const float *w, const float *b, float *y)
{
    const int32_t run = p->chans * p->inner;
    const float count = (float)(p->outer * run);
    const float mean = emx_group_norm_sum_f32(p, x, 0.0f, 1) / count;
    const float var = emx_group_norm_sum_f32(p, x, mean, 2) / count;
    const float scale = 1.0f / sqrtf(var + p->eps);
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t c = 0; c < p->chans; c++) {
            for (int32_t i = 0; i < p->inner; i++) {
                const int32_t at = c * p->inner + i;
                y[at] = (x[at] - mean) * scale * w[c] + b[c];
            }
        }
        x += p->groups * run;
        y += p->groups * run;
    }
}

EMX_INLINE void emx_group_norm_f32(const emx_group_norm_f32_t *p, const float *x, const float *w,
                                   const float *b, float *y)
{
    const int32_t run = p->chans * p->inner;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t g = 0; g < p->groups; g++) {
            const int32_t at = (n * p->outer * p->groups + g) * run;
            emx_group_norm_one_f32(p, x + at, w + g * p->chans, b + g * p->chans, y + at);
        }
    }
}

#endif
