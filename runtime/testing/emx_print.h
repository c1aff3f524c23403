// SPDX-License-Identifier: Apache-2.0
// Text for the test programs: printf of floats would be larger than most models.
#ifndef EMX_PRINT_H
#define EMX_PRINT_H
#include <stdint.h>

void emx_print(const char *text);
void emx_print_u32(uint32_t value);
void emx_print_hex(uint32_t value); // 0x and eight digits
void emx_print_f32(float value);    // as printf's %g: six digits

#endif
