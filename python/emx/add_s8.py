# SPDX-License-Identifier: Apache-2.0
"""The sum of two int8 tensors: by itself (ops/binary_s8.py), or at the end of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emx.ir import Array, Unsupported
from emx.quant import Quant, round_even


@dataclass(frozen=True)
class AddS8:
    """y = clamp(y.zero + round_even((a - a.zero) * ma + (b - b.zero) * mb, shift), lo, hi), with
    integers ma and mb near a.scale / y.scale and `sign` * b.scale / y.scale times 2^shift.

    Half to even, as sums lie half-way often when scales are powers of two apart. `shift` is the
    largest up to 31 with which no step leaves 32 bits.
    """

    a: Quant
    b: Quant
    y: Quant
    lo: int
    hi: int
    sign: int = 1

    def reference(self, a: Array, b: Array) -> Array:
        """a and b of any shapes that broadcast, as s8 or as integers of that range."""
        ma, mb, shift = self.multipliers
        v = (a.astype(np.int64) - self.a.zero) * ma + (b.astype(np.int64) - self.b.zero) * mb
        y = round_even(v, shift) + self.y.zero
        return np.asarray(np.clip(y, self.lo, self.hi), self.y.dtype.numpy)

    @property
    def multipliers(self) -> tuple[int, int, int]:
        """(ma, mb, shift)."""
        reals = (self.a.scale / self.y.scale, self.sign * self.b.scale / self.y.scale)
        for shift in range(31, 0, -1):
            ma, mb = (round(real * 2.0**shift) for real in reals)
            if self._fits(ma, mb, shift):
                return ma, mb, shift
        raise Unsupported(
            f"a sum of scales {self.a.scale:.3g} and {self.b.scale:.3g} in steps of "
            f"{self.y.scale:.3g} does not fit 32 bits",
            "calibrate with samples that reach the range of the sum",
        )

    def _fits(self, ma: int, mb: int, shift: int) -> bool:
        """Whether v + (y.zero << shift), and that plus a half, are 32-bit numbers for all a, b."""
        ends = [
            sorted(((-128 - q.zero) * m, (127 - q.zero) * m))
            for q, m in ((self.a, ma), (self.b, mb))
        ]
        zero, half = self.y.zero << shift, 1 << (shift - 1)
        least, most = (ends[0][i] + ends[1][i] + zero for i in (0, 1))
        return least >= -(1 << 31) and most + half < 1 << 31

    def params(self) -> tuple[int, ...]:
        """What emx_add_s8 of emx/add_s8.h takes: ma, mb, offset, even, shift, lo, hi."""
        ma, mb, shift = self.multipliers
        offset = (self.y.zero << shift) - self.a.zero * ma - self.b.zero * mb
        offset = (offset + (1 << 31)) % (1 << 32) - (1 << 31)  # sums wrap around to what fits
        even = -1 if self.y.zero % 2 else 1
        return ma, mb, offset, even, shift, self.lo, self.hi
