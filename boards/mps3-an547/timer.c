// SPDX-License-Identifier: Apache-2.0
// The system counter of the SSE-300, 32 MHz, 64 bits.
#include "emx_port.h"

uint64_t emx_port_ticks(void)
{
    volatile uint32_t *control = (volatile uint32_t *)0x58100000u;
    volatile const uint32_t *count = (volatile const uint32_t *)0x48101000u; // low word, high word
    *control = 1;
    uint32_t low, high = count[1], before;
    do {
        before = high;
        low = count[0];
        high = count[1];
    } while (high != before);
    return (uint64_t)high << 32 | low;
}
