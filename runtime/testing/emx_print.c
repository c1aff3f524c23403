// SPDX-License-Identifier: Apache-2.0
#include "emx_print.h"
#include "emx_port.h"

#include <string.h>

void emx_print(const char *text) { emx_port_print(text); }

void emx_print_u32(uint32_t value)
{
    char text[11];
    char *at = text + sizeof text - 1;
    *at = 0;
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    emx_print(at);
}

void emx_print_hex(uint32_t value)
{
    char text[11] = "0x";
    for (int i = 0; i < 8; i++)
        text[2 + i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
    text[10] = 0;
    emx_print(text);
}

// x * 10^n in few roundings: 10^10 is the largest power of ten a float holds exactly.
static float scale10(float x, int n)
{
    static const float powers[] = {1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f,
                                   1e6f, 1e7f, 1e8f, 1e9f, 1e10f};
    for (; n > 10; n -= 10)
        x *= powers[10];
    for (; n < -10; n += 10)
        x /= powers[10];
    return n < 0 ? x / powers[-n] : x * powers[n];
}

static int exponent10(float x)
{
    int e = 0;
    while (scale10(x, -e) >= 10)
        e++;
    while (scale10(x, -e) < 1)
        e--;
    return e;
}

// Write digits[0] . digits[1...] * 10^point, without trailing zeros.
static void print_digits(const char *digits, int count, int point)
{
    char text[24];
    char *at = text;
    for (; point < 0; point++) {
        *at++ = '0';
        if (at == text + 1)
            *at++ = '.';
    }
    const bool leading = at != text;
    for (int i = 0; i < count || (!leading && i <= point); i++) {
        if (!leading && i == point + 1)
            *at++ = '.';
        *at++ = i < count ? digits[i] : '0';
    }
    *at = 0;
    emx_print(text);
}

static void print_exponent(int e)
{
    const int size = e < 0 ? -e : e;
    const char text[5] = {'e', e < 0 ? '-' : '+', (char)('0' + size / 10), (char)('0' + size % 10),
                          0};
    emx_print(text);
}

void emx_print_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t size = bits & 0x7fffffffu;
    if (bits >> 31)
        emx_print("-");
    if (size >= 0x7f800000u) {
        emx_print(size > 0x7f800000u ? "nan" : "inf");
        return;
    }
    if (size == 0) {
        emx_print("0");
        return;
    }
    memcpy(&value, &size, sizeof value);
    int e = exponent10(value);
    uint32_t digits = (uint32_t)(scale10(value, 5 - e) + 0.5f);
    if (digits >= 1000000) {
        digits /= 10;
        e++;
    }
    char text[6];
    int count = 6;
    for (int i = 5; i >= 0; i--, digits /= 10)
        text[i] = (char)('0' + digits % 10);
    while (count > 1 && text[count - 1] == '0')
        count--;
    const bool fixed = e >= -4 && e < 6;
    print_digits(text, count, fixed ? e : 0);
    if (!fixed)
        print_exponent(e);
}
