// SPDX-License-Identifier: Apache-2.0
// What the test programs need of the machine: text, one file at a time, and a clock.
// port_host.c, port_board.c and boards/NAME/timer.c implement it.
#ifndef EMX_PORT_H
#define EMX_PORT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void emx_port_print(const char *text);

// Write a file in pieces; false when that fails.
bool emx_port_open(const char *name);
bool emx_port_write(const void *data, size_t bytes);
bool emx_port_close(void);

// Boards only: a counter that advances by 1 every timer_ns (board.json). The first call starts it.
uint64_t emx_port_ticks(void);

#ifdef __cplusplus
}
#endif
#endif
