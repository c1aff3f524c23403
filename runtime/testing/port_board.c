// SPDX-License-Identifier: Apache-2.0
#include "emx_port.h"
#include "semihosting.h"

static int32_t file;

void emx_port_print(const char *text) { emx_semihost(EMX_SYS_WRITE0, text); }

bool emx_port_open(const char *name)
{
    file = emx_semihost_open(name, EMX_OPEN_WB);
    return file >= 0;
}

bool emx_port_write(const void *data, size_t bytes)
{
    return emx_semihost_transfer(EMX_SYS_WRITE, file, data, bytes) == 0;
}

bool emx_port_close(void)
{
    const uint32_t block[1] = {(uint32_t)file};
    return emx_semihost(EMX_SYS_CLOSE, block) == 0;
}
