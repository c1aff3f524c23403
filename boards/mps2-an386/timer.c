// SPDX-License-Identifier: Apache-2.0
// TIMER0 of the CMSDK, 25 MHz: counts down from 2^32 - 1, that is 171 s.
#include "emx_port.h"

typedef struct {
    volatile uint32_t control, value, reload;
} cmsdk_timer_t;

uint64_t emx_port_ticks(void)
{
    cmsdk_timer_t *timer = (cmsdk_timer_t *)0x40000000u;
    if (!(timer->control & 1)) {
        timer->reload = timer->value = UINT32_MAX;
        timer->control = 1;
    }
    return UINT32_MAX - timer->value;
}
