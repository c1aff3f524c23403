// SPDX-License-Identifier: Apache-2.0
// TIMER0 of the nRF51, 16 MHz, 32 bits: wraps after 268 s. A tick is about as long as the 64 ns of
// an instruction on other boards; on this one it takes 256 ns, so that counts are exact.
#include "emx_port.h"

uint64_t emx_port_ticks(void)
{
    volatile uint32_t *const timer = (volatile uint32_t *)0x40008000u;
    enum { START = 0x000 / 4, CAPTURE = 0x040 / 4, BITMODE = 0x508 / 4, PRESCALER = 0x510 / 4 };
    enum { COUNT = 0x540 / 4, BITS_32 = 3 };
    if (timer[BITMODE] != BITS_32) {
        timer[BITMODE] = BITS_32;
        timer[PRESCALER] = 0;
        timer[START] = 1;
    }
    timer[CAPTURE] = 1;
    return timer[COUNT];
}
