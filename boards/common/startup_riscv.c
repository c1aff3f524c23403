// SPDX-License-Identifier: Apache-2.0
// From reset to main() on a RISC-V core in machine mode, and from a trap to a message and exit
// code 117.
#include "semihosting.h"

#include <stdbool.h>
#include <stdlib.h>

enum { GUARD_BYTES = 1 << 20 };

extern uint32_t __stack_top[], __stack_limit[];
extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

int main(int argc, char **argv);
void __libc_init_array(void);
void _exit(int code);
void Reset_Handler(void);
void Trap_Handler(void);

// Make a stack overflow a trap: no access to the megabyte below the stack, not by machine mode
// either (entry 0 of the physical memory protection, locked).
static void guard_stack(void)
{
    const uint32_t below = (uint32_t)(uintptr_t)__stack_limit - GUARD_BYTES;
    const uint32_t naturally_aligned = (below | (GUARD_BYTES / 2 - 1)) >> 2;
    enum { LOCKED = 0x80, NAPOT = 0x18 };
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrw pmpaddr0, %0\n\t"
                     "csrw pmpcfg0, %1\n\t"
                     ".option pop" ::"r"(naturally_aligned),
                     "r"(LOCKED | NAPOT));
}

// volatile: the loops must not become calls of memcpy and memset, which may live in .data, before
// the copy is done.
__attribute__((noreturn, used)) static void start(void)
{
    volatile uint32_t *to = __data_start;
    for (const volatile uint32_t *from = __data_load; to < __data_end;)
        *to++ = *from++;
    for (to = __bss_start; to < __bss_end;)
        *to++ = 0;
    guard_stack();
    __libc_init_array();
    static char *no_arguments[] = {NULL};
    exit(main(0, no_arguments));
}

// The first instruction of the memory: the machine starts here.
__attribute__((naked, section(".vectors"), used)) void Reset_Handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     ".option arch, +zicsr\n\t"
                     "la gp, __global_pointer$\n\t"
                     "la tp, __tls_base\n\t"
                     "la sp, __stack_top\n\t"
                     "la t0, Trap_Handler\n\t"
                     "csrw mtvec, t0\n\t"
                     ".option pop\n\t"
                     "tail start");
}

// picolibc has one too, but it would bring memory and string functions into each program.
void _exit(int code) { emx_semihost_exit((uint32_t)code); }

static void put_hex(char *to, uint32_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
}

__attribute__((noreturn, used)) static void report_trap(uint32_t pc, uint32_t ra, uint32_t cause,
                                                        uint32_t address)
{
    static char text[] = "emx: FAULT at pc 0x........, ra 0x........, mcause 0x........\n";
    put_hex(text + 19, pc);
    put_hex(text + 34, ra);
    put_hex(text + 53, cause);
    emx_semihost(EMX_SYS_WRITE0, text);
    enum { LOAD_FAULT = 5, STORE_FAULT = 7 };
    const bool access = cause == LOAD_FAULT || cause == STORE_FAULT;
    const uint32_t below = (uint32_t)(uintptr_t)__stack_limit - address;
    if (access && below > 0 && below <= GUARD_BYTES)
        emx_semihost(EMX_SYS_WRITE0,
                     "  the stack overflowed; --defsym=__stack_size=BYTES sets it\n");
    emx_semihost_exit(117);
}

// Starts on a fresh stack: the old one may be what went wrong.
__attribute__((naked, aligned(4))) void Trap_Handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrr a0, mepc\n\t"
                     "mv a1, ra\n\t"
                     "csrr a2, mcause\n\t"
                     "csrr a3, mtval\n\t"
                     ".option pop\n\t"
                     "la sp, __stack_top\n\t"
                     "tail report_trap");
}
