# SPDX-License-Identifier: Apache-2.0
"""Affine quantisation, specified to the bit: docs/output-format.md, "Integer arithmetic".

A real value is (q - zero) * scale. A product of scales becomes a fixed-point multiplier, and what
it multiplies is rounded once: here in NumPy on 64-bit integers, in emx/quant.h in C.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp

import numpy as np

from emx.ir import Array, DType

MAX_SHIFT = 41  # smaller multipliers have fewer bits
SCALE_SHIFT = 9  # scaled sums are in 2^-9 of a step
LARGEST = 2.0**20  # whatever is multiplied by more, and is not 0, saturates
VANISHING = 2.0**-24  # a filter whose multiplier is smaller may be zero


@dataclass(frozen=True)
class Quant:
    """How the elements of a tensor stand for reals: (q - zero) * scale, lo <= q <= hi.

    scale and its reciprocal are positive and finite in float32.
    """

    scale: float
    zero: int = 0
    dtype: DType = DType.S8
    lo: int = -128
    hi: int = 127

    @property
    def inverse(self) -> float:
        """1 / scale, the float32 that quantise() multiplies by."""
        return float(np.float32(1.0 / self.scale))

    def quantise(self, x: Array) -> Array:
        """As PyTorch, which multiplies by the reciprocal."""
        return quantise(x, self.inverse, self.zero, self.lo, self.hi, self.dtype)

    def dequantise(self, q: Array) -> Array:
        """As PyTorch: float32(q - zero) * scale."""
        wide = (np.asarray(q, np.int64) - self.zero).astype(np.float32)
        return np.asarray(wide * np.float32(self.scale))

    def __str__(self) -> str:
        return f"{self.dtype.value}({self.scale:.6g}, {self.zero})"


def quantise(x: Array, inverse: float, zero: float, lo: float, hi: float, dtype: DType) -> Array:
    """clamp(round_half_even(x * inverse) + zero, lo, hi) in float32; NaN is lo."""
    with np.errstate(all="ignore"):
        q = np.rint(np.asarray(x, np.float32) * np.float32(inverse)) + np.float32(zero)
    return np.asarray(np.clip(np.nan_to_num(q, nan=lo), lo, hi), dtype.numpy)


@dataclass(frozen=True)
class Grid:
    """A constant of reals units * scale; whole numbers `units`, and scales that broadcast to
    them."""

    units: Array
    scale: Array

    def reals(self) -> Array:
        """As PyTorch dequantises, in float32."""
        return np.asarray(self.units.astype(np.float32) * self.scale.astype(np.float32))


@dataclass(frozen=True)
class Multiplier:
    """The real m * 2^-shift. m = 0, or 2^30 <= |m| < 2^31 unless shift is MAX_SHIFT."""

    m: int
    shift: int

    @staticmethod
    def of(real: float) -> Multiplier:
        """The nearest to `real`, |real| < 2^30."""
        if real == 0:
            return Multiplier(0, MAX_SHIFT)
        shift = min(31 - frexp(abs(real))[1], MAX_SHIFT)
        m = round(real * 2.0**shift)
        if abs(m) == 1 << 31:
            m, shift = m // 2, shift - 1
        return Multiplier(m, shift)


def multipliers(reals: Array) -> Array:
    """m int32 of each of 0 <= reals, which stands for m * 2^-shifts(m): near to it, by 2^-23 of it
    unless it is below 2^-11. The lowest byte is the left shift of emx_scale_s8 in emx/quant.h."""
    reals = np.minimum(np.asarray(reals, np.float64), LARGEST)
    exponent = np.frexp(reals)[1].astype(np.int64)
    m = _carrying(reals, np.minimum(31 - exponent, MAX_SHIFT))
    m = np.where(m >> 31, _carrying(reals, np.minimum(30 - exponent, MAX_SHIFT)), m)
    return np.asarray(np.where(reals == 0, 0, m), np.int32)


def _carrying(reals: Array, shift: Array) -> Array:
    left = MAX_SHIFT - shift
    return np.asarray(np.rint((reals * 2.0**shift - left) / 256).astype(np.int64) * 256 + left)


def shifts(m: Array) -> Array:
    """The shift of each of multipliers(), int64."""
    return np.asarray(MAX_SHIFT - (m.astype(np.int64) & 255))


def scaled(
    acc: Array, m: Array, c: Array, y: Quant, lo: int, hi: int, term: Array | int = 0
) -> Array:
    """clamp(floor(acc * r + c * 2^-SCALE_SHIFT + 1/2) + y.zero, lo, hi), with r what multipliers()
    m stand for: one rounding of the exact sum, half up. acc: integers below 2^31; m and c int32
    broadcast to it. `term` is added to the product acc * m."""
    acc, m, c, shift = acc.astype(np.int64), m.astype(np.int64), c.astype(np.int64), shifts(m)
    start = (c << (shift - SCALE_SHIFT)) + (np.int64(1) << (shift - 1))
    return _clamped(((acc * m + term + start) >> shift) + y.zero, lo, hi, y.dtype)


def requantise(acc: Array, m: Array | int, shift: Array | int, y: Quant, lo: int, hi: int) -> Array:
    """clamp(floor(acc * m / 2^shift + 1/2) + y.zero, lo, hi): one rounding of the exact product,
    half up. acc: integers below 2^31; m and shift broadcast to it, 1 <= shift."""
    acc, m, shift = (np.asarray(a, np.int64) for a in (acc, m, shift))
    rounded = (acc * m + (np.int64(1) << (shift - 1))) >> shift
    return _clamped(rounded + y.zero, lo, hi, y.dtype)


def requantise_even(
    acc: Array, m: Array | int, shift: Array | int, y: Quant, lo: int, hi: int
) -> Array:
    """As requantise, half to even: for means and sums, whose exact values often lie half-way."""
    acc, m, shift = (np.asarray(a, np.int64) for a in (acc, m, shift))
    rounded = round_even(acc * m, shift)
    return _clamped(rounded + y.zero, lo, hi, y.dtype)


def round_even(v: Array, shift: Array | int) -> Array:
    """v / 2^shift to the nearest integer, half to even; 1 <= shift."""
    shift = np.asarray(shift, np.int64)
    return np.asarray((v + (np.int64(1) << (shift - 1)) - 1 + ((v >> shift) & 1)) >> shift)


def fits_left(shift: Array | int, bound: Array | int) -> bool:
    """Whether every |acc| <= bound may be shifted left by MAX_SHIFT - shift in 32 bits. Then

        acc * m >> shift = ((acc << (MAX_SHIFT - shift)) * m >> 32) >> SCALE_SHIFT

    also with a number added before the last shift, as floors collapse: emx_scale_s8 and
    emx_requantise_s8 in emx/quant.h. Otherwise, as results are millions: emx_scale_wide_s8.
    """
    left = np.maximum(MAX_SHIFT - np.asarray(shift, np.int64), 0)
    fits = np.asarray(bound, np.int64) << np.minimum(left, 31) < 1 << 31
    return bool(np.all((left < 32) & fits))


def _clamped(v: Array, lo: int, hi: int, dtype: DType) -> Array:
    return np.asarray(np.clip(v, lo, hi), dtype.numpy)
