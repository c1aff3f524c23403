// SPDX-License-Identifier: Apache-2.0
#include "emx_port.h"

#include <stdio.h>

static FILE *file;

void emx_port_print(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

bool emx_port_open(const char *name)
{
    file = fopen(name, "wb");
    return file != NULL;
}

bool emx_port_write(const void *data, size_t bytes)
{
    return fwrite(data, 1, bytes, file) == bytes;
}

bool emx_port_close(void) { return fclose(file) == 0; }
