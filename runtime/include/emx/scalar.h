// SPDX-License-Identifier: Apache-2.0
// Scalar functions that libm has not, or has only through double precision.
#ifndef EMX_SCALAR_H
#define EMX_SCALAR_H
#include <emx/emx.h>
#include <string.h>

// 2^k for -126 <= k <= 127.
EMX_INLINE float emx_pow2_f32(int32_t k)
{
    const uint32_t bits = (uint32_t)(k + 127) << 23;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// e^x within 1 ULP for all finite x (subnormal results within 1 of their last place), the same bits
// on every target without fused multiply-add. exp(x) = 2^k exp(r) with |r| <= ln(2)/2 and ln(2) in
// two parts (Cody and Waite, 1980); exp(r) = 1 + r + r^2 q(r), q a minimax polynomial of degree 4.
EMX_INLINE float emx_exp_f32(float x)
{
    if (!(x < 88.8f)) {
        return x != x ? x : INFINITY;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    const float t = x * 1.44269504f;
    const int32_t k = (int32_t)(t < 0.0f ? t - 0.5f : t + 0.5f);
    const float r = (x - (float)k * 0.693359375f) + (float)k * 2.12194440e-4f;
    float q = 0.00138145406f;
    q = q * r + 0.00836874545f;
    q = q * r + 0.0416683890f;
    q = q * r + 0.166665211f;
    q = q * r + 0.49999994f;
    const float y = (q * r * r + r) + 1.0f;
    const int32_t half = k / 2;
    return y * emx_pow2_f32(half) * emx_pow2_f32(k - half);
}

EMX_INLINE float emx_sigmoid_f32(float x) { return 1.0f / (1.0f + emx_exp_f32(-x)); }

EMX_INLINE float emx_silu_f32(float x) { return x / (1.0f + emx_exp_f32(-x)); }

// Gaussian error linear unit (Hendrycks and Gimpel, 2016), exact and with tanh.
EMX_INLINE float emx_gelu_f32(float x) { return 0.5f * x * (1.0f + erff(x * 0.707106781f)); }

EMX_INLINE float emx_gelu_tanh_f32(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * x * x * x)));
}

EMX_INLINE float emx_leaky_relu_f32(float x, float slope) { return x > 0.0f ? x : x * slope; }

#endif
