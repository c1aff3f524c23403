// SPDX-License-Identifier: Apache-2.0
#include "digits.h"

#include <stdio.h>

int main(void)
{
    // A one: a column of ink, each value from 0 (paper) to 1.
    float image[DIGITS_IMAGE_LEN] = {0}, score[DIGITS_LINEAR_LEN];
    for (int row = 0; row < 8; row++)
        image[row * 8 + 3] = image[row * 8 + 4] = 1;
    digits_run(image, score);
    for (int digit = 0; digit < DIGITS_LINEAR_LEN; digit++)
        printf("%d: %6.2f\n", digit, score[digit]);
}
