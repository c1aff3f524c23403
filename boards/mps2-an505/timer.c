// SPDX-License-Identifier: Apache-2.0
// TIMER0 by its Secure alias, 20 MHz.
#include "cmsdk_timer.h"

uint64_t emx_port_ticks(void) { return emx_cmsdk_ticks((cmsdk_timer_t *)0x50000000u); }
