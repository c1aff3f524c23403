// SPDX-License-Identifier: Apache-2.0
// Data movement as an index map:
//   y[y_start + sum_d i[d]*y_step[d]] = x[x_start + sum_d i[d]*x_step[d]]  for all i[d] < extent[d]
// after y[0 .. fill_count) = fill. Permute, slice, expand, flip and pad are rows of one table.
//
// Steps and starts count elements and may be negative. No scratch. i[0] is the outermost loop.
// x and y must not overlap.
#ifndef EMX_KERNELS_MOVEMENT_H
#define EMX_KERNELS_MOVEMENT_H
#include <emx/emx.h>

typedef struct {
    int32_t extent[6];
    int32_t x_start, x_step[6];
    int32_t y_start, y_step[6];
    int32_t fill_count;
    float fill;
} emx_movement_f32_t;

EMX_INLINE void emx_movement_f32(const emx_movement_f32_t *p, const float *x, float *y)
{
    for (int32_t i = 0; i < p->fill_count; i++) {
        y[i] = p->fill;
    }
    const int32_t *const n = p->extent;
    const int32_t *const s = p->x_step;
    const int32_t *const t = p->y_step;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const int32_t from = p->x_start + a * s[0] + b * s[1] + c * s[2] + d * s[3];
                    const int32_t to = p->y_start + a * t[0] + b * t[1] + c * t[2] + d * t[3];
                    for (int32_t e = 0; e < n[4]; e++) {
                        for (int32_t f = 0; f < n[5]; f++) {
                            y[to + e * t[4] + f * t[5]] = x[from + e * s[4] + f * s[5]];
                        }
                    }
                }
            }
        }
    }
}

#endif
