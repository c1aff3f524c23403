// SPDX-License-Identifier: Apache-2.0
// Recognises every held-out digit on the board and compares its accuracy with PyTorch's.
#include "digits.h"
#include "held_out.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 8, SHOWN = 6 };

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
        printf("      = %d       ", recognise(held_out_image + n * SIDE * SIDE));
    printf("\n\n");
}

int main(void)
{
    show();
    int correct = 0;
    for (int n = 0; n < HELD_OUT; n++)
        correct += recognise(held_out_image + n * SIDE * SIDE) == held_out_label[n];
    printf("%d held-out digits: the board recognises %d, PyTorch %d (%.1f %% and %.1f %%)\n",
           HELD_OUT, correct, PYTORCH_CORRECT, 100.0 * correct / HELD_OUT,
           100.0 * PYTORCH_CORRECT / HELD_OUT);
    printf("weights %d bytes, working memory %d bytes, %d multiply-accumulates a digit\n",
           DIGITS_WEIGHTS_BYTES, DIGITS_ARENA_BYTES, DIGITS_MACS);
    return abs(correct - PYTORCH_CORRECT) <= 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
