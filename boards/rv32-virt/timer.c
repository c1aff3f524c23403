// SPDX-License-Identifier: Apache-2.0
// The cycle counter, 64 bits; in QEMU it counts the nanoseconds of virtual time.
#include "emx_port.h"

uint64_t emx_port_ticks(void)
{
    uint32_t low, high, before;
    do {
        __asm__ volatile(".option push\n\t"
                         ".option arch, +zicsr\n\t"
                         "csrr %0, mcycleh\n\t"
                         "csrr %1, mcycle\n\t"
                         "csrr %2, mcycleh\n\t"
                         ".option pop"
                         : "=&r"(before), "=&r"(low), "=&r"(high));
    } while (high != before);
    return (uint64_t)high << 32 | low;
}
