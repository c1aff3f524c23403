// SPDX-License-Identifier: Apache-2.0
#include "gesture.h"

#include <stdio.h>
#include <stdlib.h>

// Scores of a sensor at rest; a softmax, so they add up to 1.
int main(void)
{
    static const float motion[GESTURE_MOTION_LEN];
    float score[GESTURE_SOFTMAX_LEN], sum = 0;
    gesture_run(motion, score);
    for (int i = 0; i < GESTURE_SOFTMAX_LEN; i++) {
        printf("gesture %d: %.3f\n", i, score[i]);
        sum += score[i];
    }
    return sum > 0.999f && sum < 1.001f ? EXIT_SUCCESS : EXIT_FAILURE;
}
