// SPDX-License-Identifier: Apache-2.0
// Weights that a program binds at run time: from flash of its own, a file, a download. The file
// NAME_weights.bin has this header, then the weights; all numbers are little-endian.
#ifndef EMX_WEIGHTS_H
#define EMX_WEIGHTS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { EMX_WEIGHTS_FORMAT = 1, EMX_WEIGHTS_ALIGN = 16 };

typedef struct {
    char magic[4];     // "EMXW"
    uint32_t format;   // EMX_WEIGHTS_FORMAT
    uint32_t bytes;    // of the weights
    uint32_t crc32;    // of the weights, as zlib's
    uint8_t code[32];  // SHA-256 of the C that they fit, comments left out
    uint8_t model[32]; // SHA-256 of the model that they come from, NAME_MODEL_HASH
} emx_weights_header_t;

// What NAME_bind_weights() says.
typedef enum {
    EMX_WEIGHTS_OK = 0,
    EMX_WEIGHTS_TOO_SHORT,    // less than the header, or than the weights it announces
    EMX_WEIGHTS_MISALIGNED,   // not at a multiple of EMX_WEIGHTS_ALIGN
    EMX_WEIGHTS_NOT_A_BLOB,   // does not start with the magic
    EMX_WEIGHTS_OTHER_FORMAT, // of another EMX_WEIGHTS_FORMAT
    EMX_WEIGHTS_OTHER_MODEL   // made for other code
} emx_weights_status_t;

// Whether the `bytes` bytes at `blob` have weights, `expected` bytes of them, for the code of this
// SHA-256. The weights themselves are not read.
static inline emx_weights_status_t emx_check_weights(const void *blob, size_t bytes,
                                                     uint32_t expected, const uint8_t code[32])
{
    emx_weights_header_t header;
    if (!blob || bytes < sizeof header)
        return EMX_WEIGHTS_TOO_SHORT;
    if ((uintptr_t)blob % EMX_WEIGHTS_ALIGN)
        return EMX_WEIGHTS_MISALIGNED;
    memcpy(&header, blob, sizeof header);
    if (memcmp(header.magic, "EMXW", sizeof header.magic))
        return EMX_WEIGHTS_NOT_A_BLOB;
    if (header.format != EMX_WEIGHTS_FORMAT)
        return EMX_WEIGHTS_OTHER_FORMAT;
    if (memcmp(header.code, code, sizeof header.code) || header.bytes != expected)
        return EMX_WEIGHTS_OTHER_MODEL;
    return bytes - sizeof header < expected ? EMX_WEIGHTS_TOO_SHORT : EMX_WEIGHTS_OK;
}

#endif
