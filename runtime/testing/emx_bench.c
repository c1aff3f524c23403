// SPDX-License-Identifier: Apache-2.0
// A measuring program for boards: outputs, ticks and stack of one call of the first model, written
// to EMX_BENCH_FILE as records of emx_dump.h.
//
// The figures of a model are this program's minus those of the same program with an empty model.
// So it must not itself pull in what a model may need: no printf, no floats, no <string.h>.
#include "emx_dump.h"
#include "emx_test.h"

#ifndef EMX_BENCH_FILE
#define EMX_BENCH_FILE "emx_bench.bin"
#endif

enum { MAX_STEPS = 2048, PAINT = 0x5ca1ab1e, MARGIN = 64 };

extern uint32_t __stack_limit[];

// Filled by taps: ticks spent in each step, the clock when the last tap returned.
static uint64_t step_ticks[MAX_STEPS], last_tap;

void emx_test_tap(uint32_t step, const void *y) {
    (void)y;
    if (step < MAX_STEPS)
        step_ticks[step] = emx_port_ticks() - last_tap;
    last_tap = emx_port_ticks();
}

static void empty_run(const void *const x[], void *const y[]) {
    (void)x;
    (void)y;
    emx_test_tap(0, 0);
}

static uint64_t ticks_of(void (*run)(const void *const x[], void *const y[]),
                         const void *const x[], void *const y[]) {
    last_tap = emx_port_ticks();
    const uint64_t before = last_tap;
    run(x, y);
    return emx_port_ticks() - before;
}

// Bytes of stack that one call touches below this function's frame.
__attribute__((noinline)) static uint32_t stack_of(const emx_test_model_t *m,
                                                   const void *const x[]) {
    volatile uint32_t *const top = (uint32_t *)__builtin_frame_address(0) - MARGIN / 4;
    for (volatile uint32_t *p = __stack_limit; p < top; p++)
        *p = PAINT;
    m->run(x, m->y);
    volatile uint32_t *p = __stack_limit;
    while (p < top && *p == PAINT)
        p++;
    return (uint32_t)(top - p) * 4 + MARGIN;
}
