// SPDX-License-Identifier: Apache-2.0
// Calls to the debugger or emulator that runs the program (Arm semihosting, 32-bit, which RISC-V
// has taken over).
#ifndef EMX_SEMIHOSTING_H
#define EMX_SEMIHOSTING_H
#include <stddef.h>
#include <stdint.h>

enum {
    EMX_SYS_OPEN = 0x01,
    EMX_SYS_CLOSE = 0x02,
    EMX_SYS_WRITE0 = 0x04,
    EMX_SYS_WRITE = 0x05,
    EMX_SYS_READ = 0x06,
    EMX_SYS_SEEK = 0x0A,
    EMX_SYS_FLEN = 0x0C,
    EMX_SYS_EXIT_EXTENDED = 0x20
};

// Modes of EMX_SYS_OPEN, as fopen() counts them.
enum { EMX_OPEN_RB = 1, EMX_OPEN_W = 4, EMX_OPEN_WB = 5, EMX_OPEN_A = 8, EMX_OPEN_AB = 9 };

static inline int32_t emx_semihost(uint32_t operation, const void *argument)
{
#if defined(__riscv)
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n\t"
                     ".option norvc\n\t" // the three must be 4 bytes long, and in one page
                     ".balign 16\n\t"
                     "slli zero, zero, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai zero, zero, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return (int32_t)a0;
#else
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
#endif
}

// The handle of a host file, or -1.
static inline int32_t emx_semihost_open(const char *name, uint32_t mode)
{
    const volatile char *end = name; // volatile: not a call of strlen, which a bench must not bring
    while (*end)
        end++;
    const uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, (uint32_t)(end - name)};
    return emx_semihost(EMX_SYS_OPEN, block);
}

// The number of bytes that were NOT transferred; `operation` is EMX_SYS_READ or EMX_SYS_WRITE.
static inline int32_t emx_semihost_transfer(uint32_t operation, int32_t file, const void *data,
                                            size_t bytes)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)data, (uint32_t)bytes};
    return emx_semihost(operation, block);
}

// End the program; the emulator exits with `code`.
__attribute__((noreturn)) static inline void emx_semihost_exit(uint32_t code)
{
    const uint32_t block[2] = {0x20026, code}; // ADP_Stopped_ApplicationExit
    for (;;)
        emx_semihost(EMX_SYS_EXIT_EXTENDED, block);
}

#endif
