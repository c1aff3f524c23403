// SPDX-License-Identifier: Apache-2.0
// A timer of Arm's Cortex-M System Design Kit: counts down from 2^32 - 1, that is 171 s at 25 MHz.
#ifndef EMX_CMSDK_TIMER_H
#define EMX_CMSDK_TIMER_H
#include "emx_port.h"

typedef struct {
    volatile uint32_t control, value, reload;
} cmsdk_timer_t;

static inline uint64_t emx_cmsdk_ticks(cmsdk_timer_t *timer)
{
    if (!(timer->control & 1)) {
        timer->reload = timer->value = UINT32_MAX;
        timer->control = 1;
    }
    return UINT32_MAX - timer->value;
}

#endif
