// SPDX-License-Identifier: Apache-2.0
// Scalar functions that libm has not, or has only through double precision.
#ifndef EMX_SCALAR_H
#define EMX_SCALAR_H
#include <emx/emx.h>

// 2^k for -126 <= k <= 127.
EMX_INLINE float emx_pow2_f32(int32_t k)
{
    const uint32_t bits = (uint32_t)(k + 127) << 23;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// exp(r) for |r| <= ln(2)/2: 1 + r + r^2 q(r), q a minimax polynomial of degree 4.
EMX_INLINE float emx_exp_rest_f32(float r)
{
    float q = 0.00138145406f;
    q = q * r + 0.00836874545f;
    q = q * r + 0.0416683890f;
    q = q * r + 0.166665211f;
    q = q * r + 0.49999994f;
    return (q * r * r + r) + 1.0f;
}

// e^x within 1 ULP for all finite x (subnormal results within 1 of their last place), the same bits
// on every target without fused multiply-add. exp(x) = 2^k exp(r) with |r| <= ln(2)/2 and ln(2) in
// two parts (Cody and Waite, 1980).
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
    const int32_t half = k / 2;
    return emx_exp_rest_f32(r) * emx_pow2_f32(half) * emx_pow2_f32(k - half);
}

// e^x for x <= 0 within 1 ULP, 0 where that is subnormal: half the work. Adding 1.5 * 2^23 rounds
// to a whole number, which then stands in the last bits.
EMX_INLINE float emx_exp_negative_f32(float x)
{
    if (!(x > -87.3f)) {
        return x != x ? x : 0.0f;
    }
    const float t = x * 1.44269504f + 12582912.0f;
    const float k = t - 12582912.0f;
    const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits + 127u) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return emx_exp_rest_f32(r) * scale;
}

// tanh(x) within 2 ULP: (1 - e^-2x) / (1 + e^-2x), and near 0, where that loses digits, an odd
// minimax polynomial.
EMX_INLINE float emx_tanh_f32(float x)
{
    const float a = fabsf(x);
    if (a < 0.625f) {
        const float s = x * x;
        float q = -0.005704987f;
        q = q * s + 0.020639086f;
        q = q * s - 0.053739715f;
        q = q * s + 0.13331442f;
        q = q * s - 0.3333328f;
        return x * (s * q + 1.0f);
    }
    const float e = emx_exp_negative_f32(-2.0f * a);
    const float t = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -t : t;
}

EMX_INLINE float emx_sigmoid_f32(float x)
{
    const float e = emx_exp_negative_f32(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

EMX_INLINE float emx_silu_f32(float x) { return x * emx_sigmoid_f32(x); }

// Gaussian error linear unit (Hendrycks and Gimpel, 2016), exact and with tanh.
EMX_INLINE float emx_gelu_f32(float x) { return 0.5f * x * (1.0f + erff(x * 0.707106781f)); }

EMX_INLINE float emx_gelu_tanh_f32(float x)
{
    return 0.5f * x * (1.0f + emx_tanh_f32(0.797884561f * (x + 0.044715f * x * x * x)));
}

EMX_INLINE float emx_leaky_relu_f32(float x, float slope) { return x > 0.0f ? x : x * slope; }

// The greater or smaller of two; NaN if one is.
EMX_INLINE float emx_max_f32(float a, float b) { return a > b || a != a ? a : b; }
EMX_INLINE float emx_min_f32(float a, float b) { return a < b || a != a ? a : b; }

// clamp(round_half_even(x * inverse) + zero, lo, hi), whole numbers all; NaN is lo.
EMX_INLINE int32_t emx_quantize_f32(float x, float inverse, float zero, float lo, float hi)
{
    const float q = rintf(x * inverse) + zero;
    return (int32_t)(q > lo ? (q < hi ? q : hi) : lo);
}

EMX_INLINE float emx_square_f32(float x) { return x * x; }

EMX_INLINE float emx_sign_f32(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f; }

// x - y*floor(x/y): the remainder with the sign of y.
EMX_INLINE float emx_remainder_f32(float x, float y)
{
    const float r = fmodf(x, y);
    return r != 0.0f && (r < 0.0f) != (y < 0.0f) ? r + y : r;
}

// floor(x/y) of the exact quotient, as Python's x // y.
EMX_INLINE float emx_floor_divide_f32(float x, float y)
{
    if (y == 0.0f) {
        return x / y;
    }
    const float r = fmodf(x, y);
    const bool below = r != 0.0f && (r < 0.0f) != (y < 0.0f);
    const float quotient = (x - r) / y - (below ? 1.0f : 0.0f);
    const float whole = floorf(quotient);
    return quotient - whole > 0.5f ? whole + 1.0f : whole;
}

// Integers. Sums and products wrap around, as PyTorch's. A division by 0 gives 0; PyTorch raises an
// error.
EMX_INLINE int64_t emx_add_s64(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}
EMX_INLINE int64_t emx_sub_s64(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}
EMX_INLINE int64_t emx_mul_s64(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}
EMX_INLINE int64_t emx_max_s64(int64_t a, int64_t b) { return a > b ? a : b; }
EMX_INLINE int64_t emx_min_s64(int64_t a, int64_t b) { return a < b ? a : b; }
EMX_INLINE int64_t emx_abs_s64(int64_t x) { return x < 0 ? -x : x; }
EMX_INLINE int64_t emx_square_s64(int64_t x) { return emx_mul_s64(x, x); }
EMX_INLINE int64_t emx_trunc_divide_s64(int64_t x, int64_t y) { return y == 0 ? 0 : x / y; }
EMX_INLINE int64_t emx_fmod_s64(int64_t x, int64_t y) { return y == 0 ? 0 : x % y; }

EMX_INLINE int64_t emx_clamp_s64(int64_t x, int64_t lo, int64_t hi)
{
    return emx_min_s64(emx_max_s64(x, lo), hi);
}

EMX_INLINE int64_t emx_remainder_s64(int64_t x, int64_t y)
{
    const int64_t r = emx_fmod_s64(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

EMX_INLINE int64_t emx_floor_divide_s64(int64_t x, int64_t y)
{
    return emx_trunc_divide_s64(x - emx_remainder_s64(x, y), y);
}

// Towards zero; numbers out of range become the nearest integer that is in it, NaN becomes 0.
EMX_INLINE int64_t emx_to_s64(float x)
{
    if (!(x > -9223372036854775808.0f)) {
        return x != x ? 0 : INT64_MIN;
    }
    return x < 9223372036854775808.0f ? (int64_t)x : INT64_MAX;
}

EMX_INLINE int32_t emx_to_s32(float x)
{
    if (!(x > -2147483648.0f)) {
        return x != x ? 0 : INT32_MIN;
    }
    return x < 2147483648.0f ? (int32_t)x : INT32_MAX;
}

EMX_INLINE float emx_hardsigmoid_f32(float x)
{
    return emx_clamp_f32(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
}

EMX_INLINE float emx_hardswish_f32(float x) { return x * emx_hardsigmoid_f32(x); }

// log(1 + exp(beta * x)) / beta, and x itself where that is more than threshold / beta.
EMX_INLINE float emx_softplus_f32(float x, float beta, float threshold)
{
    return x * beta > threshold ? x : log1pf(emx_exp_f32(x * beta)) / beta;
}

EMX_INLINE float emx_mish_f32(float x)
{
    return x * emx_tanh_f32(emx_softplus_f32(x, 1.0f, 20.0f));
}

EMX_INLINE float emx_log_sigmoid_f32(float x)
{
    return emx_min_f32(x, 0.0f) - log1pf(emx_exp_f32(-fabsf(x)));
}

// Exponential linear unit (Clevert et al., 2016), with the factors of its relatives.
EMX_INLINE float emx_elu_f32(float x, float alpha, float scale, float input_scale)
{
    return x > 0.0f ? x * scale : expm1f(x * input_scale) * alpha * scale;
}

EMX_INLINE float emx_threshold_f32(float x, float threshold, float value)
{
    return x <= threshold ? value : x;
}

#endif
