// SPDX-License-Identifier: Apache-2.0
// TIMER0, 25 MHz.
#include "cmsdk_timer.h"

uint64_t emx_port_ticks(void) { return emx_cmsdk_ticks((cmsdk_timer_t *)0x40000000u); }
