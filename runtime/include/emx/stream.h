// SPDX-License-Identifier: Apache-2.0
// Images that are made, or arrive, row by row: which of their rows are in memory, and where.
//
// The rows of a line follow upon each other, so that those which a row of the next image needs are
// a small image to the kernel that makes it. When there is no room for the next row, the last
// `keep` rows move to the front. The generated code calls the layers in an order in which each row
// is there when it is needed (python/emx/stream.py, proved by check_stream.py).
#ifndef EMX_STREAM_H
#define EMX_STREAM_H
#include <emx/emx.h>

enum { EMX_FEED = 255 }; // in the order of calls: the next row of the input arrives

typedef struct {
    int32_t row_bytes; // 0: all calls write the same row
    int16_t height;    // rows of the image
    int16_t rows;      // rows there is room for
    int16_t keep;
} emx_line_t;

// Rows [first, made) of the image are in memory.
typedef struct {
    int16_t first, made;
} emx_line_at_t;

// Rows of an image, and how many above them the window reaches beyond it.
typedef struct {
    const void *data;
    int32_t count, above;
} emx_rows_t;

// Rows [corner, corner + reach), those of them that the image has.
EMX_SHARED emx_rows_t emx_line_rows(const emx_line_t *line, const emx_line_at_t *at,
                                    const void *memory, int32_t corner, int32_t reach)
{
    const int32_t first = emx_max_s32(corner, 0);
    const int32_t last = emx_min_s32(corner + reach, line->height);
    const emx_rows_t rows = {
        (const unsigned char *)memory + (first - at->first) * line->row_bytes,
        last - first,
        first - corner,
    };
    return rows;
}

// Where the next row goes; from now on it counts as made.
EMX_SHARED void *emx_line_next(const emx_line_t *line, emx_line_at_t *at, void *memory)
{
    unsigned char *const base = (unsigned char *)memory;
    if (at->made - at->first == line->rows) {
        const unsigned char *const kept = base + (line->rows - line->keep) * line->row_bytes;
        const int32_t bytes = line->keep * line->row_bytes;
        int32_t i = 0;
        for (; i + 4 <= bytes; i += 4) {
            uint32_t word;
            memcpy(&word, kept + i, 4);
            memcpy(base + i, &word, 4);
        }
        for (; i < bytes; i++) {
            base[i] = kept[i];
        }
        at->first = (int16_t)(at->made - line->keep);
    }
    return base + (at->made++ - at->first) * line->row_bytes;
}

#endif
