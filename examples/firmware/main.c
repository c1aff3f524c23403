// SPDX-License-Identifier: Apache-2.0
// Recognises every held-out digit on the board, with floats and with 8-bit integers, and compares
// the accuracy with PyTorch's.
#include "digits.h"
#include "digits_int8.h"
#include "held_out.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, SHOWN = 6 };

static int recognise(const unsigned char *image)
{
    float x[DIGITS_IMAGE_LEN], scores[DIGITS_LINEAR_LEN];
    for (int i = 0; i < DIGITS_IMAGE_LEN; i++)
        x[i] = image[i] / 16.0f;
    digits_run(x, scores);
    int best = 0;
    for (int i = 1; i < DIGITS_LINEAR_LEN; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

// The same with integers: only their order matters, so that no score has to become a float.
static int recognise_int8(const unsigned char *image)
{
    int8_t x[DIGITS_INT8_IMAGE_LEN], scores[DIGITS_INT8_LINEAR_LEN];
    for (int i = 0; i < DIGITS_INT8_IMAGE_LEN; i++)
        x[i] = digits_int8_quantize_image(image[i] / 16.0f);
    digits_int8_run(x, scores);
    int best = 0;
    for (int i = 1; i < DIGITS_INT8_LINEAR_LEN; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

// The first images side by side, each pixel two characters wide, and what they are taken for.
static void show(void)
{
    static const char ink[] = " .:-=+*#%@"; // a grey value from 0 to 16 picks one
    for (int row = 0; row < SIDE; row++) {
        for (int n = 0; n < SHOWN; n++) {
            const unsigned char *pixel = held_out_image + (n * SIDE + row) * SIDE;
            for (int column = 0; column < SIDE; column++) {
                const char c = ink[pixel[column] * 9 / 16];
                printf("%c%c", c, c);
            }
        }
        printf("\n");
    }
    for (int n = 0; n < SHOWN; n++)
        printf("      = %d       ", recognise_int8(held_out_image + n * PIXELS));
    printf("\n\n");
}

int main(void)
{
    show();
    int correct = 0, correct_int8 = 0;
    for (int n = 0; n < HELD_OUT; n++) {
        correct += recognise(held_out_image + n * PIXELS) == held_out_label[n];
        correct_int8 += recognise_int8(held_out_image + n * PIXELS) == held_out_label[n];
    }
    printf("%d held-out digits: the board recognises %d, with int8 %d, PyTorch %d\n", HELD_OUT,
           correct, correct_int8, PYTORCH_CORRECT);
    const int half_a_point = HELD_OUT / 200;
    return abs(correct - PYTORCH_CORRECT) <= 1 && correct - correct_int8 <= half_a_point
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}
