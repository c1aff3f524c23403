// SPDX-License-Identifier: Apache-2.0
// From reset to main() on a Cortex-M, and from a fault to a message and exit code 117.
#include "semihosting.h"

#include <stdbool.h>
#include <stdlib.h>

extern uint32_t __stack_top[], __stack_limit[];
extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

int main(int argc, char **argv);
void __libc_init_array(void);
void _init(void);
void _fini(void);
void Reset_Handler(void);
void Fault_Handler(void);

// What newlib's __libc_init_array and exit call besides the arrays.
void _init(void) {}
void _fini(void) {}

// volatile: the loops must not become calls of memcpy and memset, which may be vectorised or live
// in .data, before the copy is done.
__attribute__((noinline, noreturn)) static void start(void)
{
    volatile uint32_t *to = __data_start;
    for (const volatile uint32_t *from = __data_load; to < __data_end;)
        *to++ = *from++;
    for (to = __bss_start; to < __bss_end;)
        *to++ = 0;
    __libc_init_array();
    static char *no_arguments[] = {NULL};
    exit(main(0, no_arguments));
}

// Make a stack overflow a fault. The stack lies at the bottom of the RAM; what is below reads as
// zero on some boards, so that without this the program would go on with lost variables. (Armv6-M
// has nothing for it, but on our board of that kind nothing is below.)
static void guard_stack(void)
{
#if __ARM_ARCH >= 8
    __asm__ volatile("msr msplim, %0" ::"r"(__stack_limit));
#elif __ARM_ARCH == 7
    // Region 0 of the MPU: the megabyte below the stack, no access; elsewhere the default map.
    enum { BYTES = 1 << 20, LOG2_BYTES = 20 };
    volatile uint32_t *const mpu = (volatile uint32_t *)0xE000ED90u;
    if ((uintptr_t)__stack_limit % BYTES)
        return;
    mpu[2] = 0;                                          // RNR
    mpu[3] = (uint32_t)(uintptr_t)__stack_limit - BYTES; // RBAR
    mpu[4] = (LOG2_BYTES - 1) << 1 | 1;                  // RASR: size, enable
    mpu[1] = 1 << 2 | 1;                                 // CTRL: PRIVDEFENA, ENABLE
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
}

// The FPU (and Helium) must be on before any function whose prologue may save its registers.
__attribute__((noreturn)) void Reset_Handler(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; // CPACR: full access to CP10 and CP11
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    guard_stack();
    start();
}

static void put_hex(char *to, uint32_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
}

// `frame` is what the processor pushed: r0-r3, r12, lr, pc, xpsr.
__attribute__((noreturn, used)) static void report_fault(const uint32_t *frame)
{
    static char text[] = "emx: FAULT at pc 0x........, lr 0x........, CFSR 0x........\n";
    const uint32_t cfsr = *(volatile uint32_t *)0xE000ED28u; // 0 on Armv6-M, which has none
    // STKOF, STKERR, MSTKERR: the stack overflowed, and there is no frame.
    const bool stack_overflow = cfsr & (1u << 20 | 1u << 12 | 1u << 4) || frame < __stack_limit;
    put_hex(text + 19, stack_overflow ? 0 : frame[6]);
    put_hex(text + 34, stack_overflow ? 0 : frame[5]);
    put_hex(text + 51, cfsr);
    emx_semihost(EMX_SYS_WRITE0, text);
    if (stack_overflow)
        emx_semihost(EMX_SYS_WRITE0,
                     "  the stack overflowed; --defsym=__stack_size=BYTES sets it\n");
    emx_semihost_exit(117);
}

// Starts on a fresh stack: the old one may be what went wrong.
__attribute__((naked)) void Fault_Handler(void)
{
    __asm__ volatile("mov r0, sp\n\t"
#if __ARM_ARCH >= 8
                     "mov r1, #0\n\t"
                     "msr msplim, r1\n\t"
#endif
                     "ldr r1, =__stack_top\n\t"
                     "mov sp, r1\n\t"
                     "ldr r1, =report_fault\n\t"
                     "bx r1\n\t"
                     ".ltorg");
}

typedef void (*handler_t)(void);
typedef union {
    uint32_t *stack;
    handler_t handler;
} vector_t;

// No interrupt is ever enabled, so the table ends with the system exceptions.
__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    {.stack = __stack_top},
    {.handler = Reset_Handler},
    {.handler = Fault_Handler}, // NMI
    {.handler = Fault_Handler}, // HardFault
    {.handler = Fault_Handler}, // MemManage
    {.handler = Fault_Handler}, // BusFault
    {.handler = Fault_Handler}, // UsageFault
    {.handler = Fault_Handler}, // SecureFault
    {0},
    {0},
    {0},
    {.handler = Fault_Handler}, // SVCall
    {.handler = Fault_Handler}, // DebugMonitor
    {0},
    {.handler = Fault_Handler}, // PendSV
    {.handler = Fault_Handler}, // SysTick
};
