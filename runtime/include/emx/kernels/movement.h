// SPDX-License-Identifier: Apache-2.0
// Data movement as an index map:
//   y[y_start + sum_d i[d]*y_step[d]] = x[x_start + sum_d i[d]*x_step[d]]  for all i[d] < extent[d]
// after y[0 .. fill_count) = fill. Permute, slice, expand, flip and pad are rows of one table.
//
// Elements are `size` (1, 2, 4 or 8) bytes of any type; `fill` has the bits of one. Steps and
// starts count elements and may be negative. No scratch. i[0] is the outermost loop. x and y must
// not overlap.
#ifndef EMX_KERNELS_MOVEMENT_H
#define EMX_KERNELS_MOVEMENT_H
#include <emx/emx.h>

typedef struct {
    int32_t size;
    int32_t extent[6];
    int32_t x_start, x_step[6];
    int32_t y_start, y_step[6];
    int32_t fill_count;
    int64_t fill;
} emx_movement_t;

// y[to] = x[from]. A memcpy of constant size is a load and a store.
EMX_INLINE void emx_movement_one(const emx_movement_t *p, const void *x, int32_t from, void *y,
                                 int32_t to)
{
    const char *const source = (const char *)x + from * p->size;
    char *const target = (char *)y + to * p->size;
    switch (p->size) {
    case 1:
        memcpy(target, source, 1);
        break;
    case 2:
        memcpy(EMX_ASSUME_ALIGNED(target, 2), EMX_ASSUME_ALIGNED(source, 2), 2);
        break;
    case 4:
        memcpy(EMX_ASSUME_ALIGNED(target, 4), EMX_ASSUME_ALIGNED(source, 4), 4);
        break;
    default:
        memcpy(EMX_ASSUME_ALIGNED(target, 8), EMX_ASSUME_ALIGNED(source, 8), 8);
    }
}

EMX_INLINE void emx_movement(const emx_movement_t *p, const void *x, void *y)
{
    for (int32_t i = 0; i < p->fill_count; i++) {
        emx_movement_one(p, &p->fill, 0, y, i);
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
                            emx_movement_one(p, x, from + e * s[4] + f * s[5], y,
                                             to + e * t[4] + f * t[5]);
                        }
                    }
                }
            }
        }
    }
}

#endif
