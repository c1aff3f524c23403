# SPDX-License-Identifier: Apache-2.0
"""Fixed-point functions, to the bit as in emx/fixed.h; arrays of int64 in and out."""

from __future__ import annotations

import numpy as np

from emx.ir import Array


def normalise(v: Array, bits: int) -> tuple[Array, Array]:
    """(m, n): m = floor(v / 2^n) below 2^bits, with the least n >= 0; 0 <= v."""
    v, n = np.array(v, np.int64), np.zeros(np.shape(v), np.int64)
    while (big := v >> bits > 0).any():
        v, n = np.where(big, v >> 1, v), n + big
    return v, n


def reciprocal(n: Array) -> Array:
    """2^63 / n for 2^31 <= n < 2^32, at most 2^-29 of it too small: one step of Newton's method
    from a quotient of 16 bits."""
    a = 0xFFFFFFFF // (n >> 16)
    return np.asarray(a * (((1 << 49) - n * a) >> 16) >> 17)


def log2(n: Array) -> Array:
    """floor(log2(n / 2^31) * 2^20), by 20 squarings that are rounded down; 2^31 <= n < 2^32."""
    n, y = np.asarray(n, np.uint64), np.zeros(np.shape(n), np.int64)
    one, low, top = np.uint64(1), np.uint64(31), np.uint64(32)
    for _ in range(20):
        square = n * n >> low
        over = square >> top > 0
        n, y = np.where(over, square >> one, square), y * 2 + over
    return y


def high(a: Array, b: Array | int) -> Array:
    """floor(a * b / 2^32), |a * b| < 2^63."""
    return np.asarray(np.asarray(a, np.int64) * b >> 32)


def normalise_even(v: Array) -> tuple[Array, Array]:
    """(n, e): n = floor(v / 2^(2e)), 2^30 <= n < 2^32; 1 <= v < 2^63. e may be negative."""
    n, e = np.array(v, np.int64), np.zeros(np.shape(v), np.int64)
    while (big := n >> 32 > 0).any():
        n, e = np.where(big, n >> 2, n), e + big
    while (small := n >> 30 == 0).any():
        n, e = np.where(small, n << 2, n), e - small
    return n, e


def rsqrt(n: Array) -> Array:
    """2^46 / sqrt(n) for 2^30 <= n < 2^32, but for 2^-24 of it: a straight line, then three steps
    of Newton's method."""
    y = 2287070085 - high(n, 1304596316)
    for _ in range(3):
        y = y * ((3 << 28) - high(high(y, y), n)) >> 29
    return np.asarray(y)


def tanh_table() -> Array:
    """tanh(i / 32) for i <= 256, in 2^-15; int16 [257]."""
    entries = np.rint(np.tanh(np.arange(257) / 32) * 32768)
    return np.asarray(np.minimum(entries, 32767), np.int16)


def tanh(table: Array, x: Array, bits: int) -> Array:
    """tanh in 2^-15 of x in 2^-bits, 6 <= bits: a straight line between two entries of the table,
    rounded half up, and of a negative x less the value of -x. It is 1.2e-4 off at most."""
    table, step = np.asarray(table, np.int64), bits - 5
    a = np.minimum(np.abs(x), (8 << bits) - 1)
    i, part = a >> step, a & ((1 << step) - 1)
    y = table[i] + ((table[i + 1] - table[i]) * part + (1 << (step - 1)) >> step)
    return np.asarray(np.where(x < 0, -y, y))


def sigmoid(table: Array, x: Array, bits: int) -> Array:
    """1 / (1 + e^-x) in 2^-15 of x in 2^-bits: (1 + tanh(x / 2)) / 2, rounded down."""
    return np.asarray(16384 + (tanh(table, x, bits + 1) >> 1))
