// SPDX-License-Identifier: Apache-2.0
// What a test program hands to `emx verify` and `emx bench`: a file of records, each a header and
// its data, in the byte order of the machine (little-endian).
#ifndef EMX_DUMP_H
#define EMX_DUMP_H
#include "emx_port.h"

enum {
    EMX_DUMP_OUTPUT = 1, // an output, as the model computed it; index: which
    EMX_DUMP_STEP = 2,   // a step's output, as the model computed it; index: which step
    EMX_DUMP_TICKS = 3,  // uint64_t; index: which step, or EMX_DUMP_WHOLE for a whole call
    EMX_DUMP_STACK = 4   // uint32_t: bytes of stack below the caller's frame
};
enum { EMX_DUMP_WHOLE = 0xffff };

static inline bool emx_dump(uint32_t kind, uint32_t index, uint32_t vector, const void *data,
                            uint32_t bytes)
{
    const uint32_t header[4] = {kind, index, vector, bytes};
    return emx_port_write(header, sizeof header) && emx_port_write(data, bytes);
}

#endif
