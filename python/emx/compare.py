# SPDX-License-Identifier: Apache-2.0
"""How far computed values are from what PyTorch gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emx.ir import Array


@dataclass(frozen=True)
class Difference:
    """What lies between computed and eager values.

    max_abs   largest |d|; elements where both are NaN or the same infinity differ by 0, where
              only one is, by infinity
    rel       max_abs over the largest finite absolute eager value
    max_ulp   largest distance in representable floats
    sqnr_db   signal to quantisation noise; infinite when every element is equal
    worst     index of the element where |d| is largest, in the flattened tensor
    """

    max_abs: float
    rel: float
    max_ulp: int
    sqnr_db: float
    worst: int
    device: float
    eager: float
    ok: bool


def compare(device: Array, eager: Array, rtol: float, atol: float) -> Difference:
    """Compare two float arrays of one shape, with at least one element."""
    a, b = device.astype(np.float64).ravel(), eager.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        d = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    d[same] = 0
    d[~same & ~(np.isfinite(a) & np.isfinite(b))] = np.inf
    finite = np.isfinite(b)
    scale = float(np.abs(b[finite]).max(initial=0))
    worst = int(d.argmax())
    max_abs = float(d[worst])
    rel = max_abs / scale if scale else (0.0 if max_abs == 0 else math.inf)
    noise, signal = float((d**2).sum()), float((b[finite] ** 2).sum())
    return Difference(
        max_abs=max_abs,
        rel=rel,
        max_ulp=_max_ulp(device, eager),
        sqnr_db=decibel(signal, noise),
        worst=worst,
        device=float(a[worst]),
        eager=float(b[worst]),
        ok=max_abs <= atol + rtol * scale,
    )


def finite_or_null(row: Mapping[str, object]) -> dict[str, object]:
    """For JSON, which has no other numbers."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip()
        for r in (head, *rows)
    ]


def _max_ulp(device: Array, eager: Array) -> int:
    if device.dtype != np.float32:
        return int(np.abs(device.astype(np.int64) - eager.astype(np.int64)).max(initial=0))
    both_nan = np.isnan(device) & np.isnan(eager)
    distance = np.abs(_ordered(device) - _ordered(eager))
    return int(np.where(both_nan, 0, distance).max(initial=0))


def _ordered(x: Array) -> Array:
    """Integers in the order of the floats `x`, one apart for neighbours; -0 equals 0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def decibel(signal: float, noise: float) -> float:
    """Infinite without noise."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf
