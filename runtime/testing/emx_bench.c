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

// As many as the model has, for memory may be scarce.
#ifndef EMX_BENCH_STEPS
#define EMX_BENCH_STEPS 64
#endif

enum { PAINT = 0x5ca1ab1e };

extern uint32_t __stack_limit[];

// Filled by taps: ticks spent in each step, the clock when the last tap returned.
static uint64_t step_ticks[EMX_BENCH_STEPS], last_tap;

void emx_test_tap(uint32_t step, const void *y)
{
    (void)y;
    if (step < EMX_BENCH_STEPS)
        step_ticks[step] = emx_port_ticks() - last_tap;
    last_tap = emx_port_ticks();
}

// Bytes of stack that one call touches below this function's frame.
__attribute__((noinline)) static uint32_t stack_of(const emx_test_model_t *m, const void *const x[])
{
    volatile uint32_t *top;
#if defined(__riscv)
    __asm__ volatile("mv %0, sp" : "=r"(top));
#else
    __asm__ volatile("mov %0, sp" : "=r"(top));
#endif
    for (volatile uint32_t *p = __stack_limit; p < top; p++)
        *p = PAINT;
    m->run(x, m->y);
    volatile uint32_t *p = __stack_limit;
    while (p < top && *p == PAINT)
        p++;
    return (uint32_t)(top - p) * 4;
}

// volatile: not a call of memset.
static void fill(void *y, uint32_t bytes)
{
    volatile unsigned char *p = (volatile unsigned char *)y;
    for (uint32_t i = 0; i < bytes; i++)
        p[i] = 0xff;
}

static uint64_t ticks_of(const emx_test_model_t *m, const void *const x[])
{
    const uint64_t before = last_tap = emx_port_ticks();
    m->run(x, m->y);
    return emx_port_ticks() - before;
}

// What a tap costs by itself; call before the model runs.
static uint64_t ticks_of_tap(void)
{
    emx_test_tap(0, 0);
    emx_test_tap(0, 0);
    return step_ticks[0];
}

int main(void)
{
    const emx_test_model_t *m = emx_test_models[0];
    const void *x[EMX_TEST_MAX_TENSORS];
    if (m->n_inputs > EMX_TEST_MAX_TENSORS || m->n_steps > EMX_BENCH_STEPS ||
        !emx_port_open(EMX_BENCH_FILE))
        return 1;
    for (uint32_t i = 0; i < m->n_inputs; i++)
        x[i] = m->vectors + m->inputs[i].offset;
    for (uint32_t i = 0; i < m->n_outputs; i++)
        fill(m->y[i], m->outputs[i].bytes);
    const uint32_t stack = stack_of(m, x);
    bool ok = emx_dump(EMX_DUMP_STACK, 0, 0, &stack, sizeof stack);
    for (uint32_t i = 0; i < m->n_outputs; i++)
        ok &= emx_dump(EMX_DUMP_OUTPUT, i, 0, m->y[i], m->outputs[i].bytes);
    const uint64_t tap_ticks = ticks_of_tap();
    const uint64_t ticks = ticks_of(m, x);
    ok &= emx_dump(EMX_DUMP_TICKS, EMX_DUMP_WHOLE, 0, &ticks, sizeof ticks);
    for (uint32_t i = 0; m->tapped && i < m->n_steps; i++) {
        const uint64_t own = step_ticks[i] - tap_ticks;
        ok &= emx_dump(EMX_DUMP_TICKS, i, 0, &own, sizeof own);
    }
    return ok && emx_port_close() ? 0 : 1;
}
