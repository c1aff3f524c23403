// SPDX-License-Identifier: Apache-2.0
// The sum of two int8 numbers of other scales, rounded half to even: AddS8 of python/emx/add_s8.py.
#ifndef EMX_ADD_S8_H
#define EMX_ADD_S8_H
#include <emx/emx.h>

// Parameters of one sum, in a kernel's struct. Its unit is 2^-shift of y's; `offset` stands for all
// zero points. No sum leaves 32 bits, though parts of it may: they wrap around.
enum {
    EMX_ADD_A, // the multipliers
    EMX_ADD_B,
    EMX_ADD_OFFSET,
    EMX_ADD_EVEN, // 1, or -1 where the zero point of y is odd
    EMX_ADD_SHIFT,
    EMX_ADD_LO, // y's bounds
    EMX_ADD_HI,
    EMX_ADD_PARAMS
};

// a and b are in the range of int8_t, and so is the result.
EMX_INLINE int32_t emx_add_s8(const int32_t p[EMX_ADD_PARAMS], int32_t a, int32_t b)
{
    const uint32_t sum = (uint32_t)p[EMX_ADD_OFFSET] + (uint32_t)a * (uint32_t)p[EMX_ADD_A] +
                         (uint32_t)b * (uint32_t)p[EMX_ADD_B];
    const uint32_t up = sum + (1u << (p[EMX_ADD_SHIFT] - 1));
    int32_t y = (int32_t)up >> p[EMX_ADD_SHIFT];
    if (up << (32 - p[EMX_ADD_SHIFT]) == 0) { // half-way: down to the even one
        y -= (y ^ (p[EMX_ADD_EVEN] < 0)) & 1;
    }
    return emx_max_s32(emx_min_s32(y, p[EMX_ADD_HI]), p[EMX_ADD_LO]);
}

#endif
