// SPDX-License-Identifier: Apache-2.0
#include "residual.h"

#include <stdio.h>
#include <stdlib.h>

// The five scores of a grey image are a softmax: they add up to 1.
int main(void)
{
    static float image[RESIDUAL_IMAGE_LEN], score[RESIDUAL_SOFTMAX_LEN];
    for (int i = 0; i < RESIDUAL_IMAGE_LEN; i++)
        image[i] = 0.5f;
    residual_run(image, score);
    float sum = 0;
    for (int i = 0; i < RESIDUAL_SOFTMAX_LEN; i++)
        sum += score[i];
    printf("%s: the scores add up to %.3f\n", RESIDUAL_TARGET, sum);
    return sum > 0.999f && sum < 1.001f ? EXIT_SUCCESS : EXIT_FAILURE;
}
