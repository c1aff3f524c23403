# SPDX-License-Identifier: Apache-2.0
"""Windows of convolutions in three dimensions, axis by axis, direct or transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np

from emx.ir import Array
from emx.kernel import Offsets


@dataclass(frozen=True)
class Axis:
    """The window along one axis. Between two elements of x lie `spread` - 1 zeros: a transposed
    convolution of stride s has spread s and stride 1. Negative padding cuts off."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    spread: int = 1
    pad: tuple[int, int] = (0, 0)

    def out(self, extent: int) -> int:
        full = (extent - 1) * self.spread + 1 + sum(self.pad)
        return (full - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

    def taps(self, extent: int) -> tuple[Offsets, Offsets]:
        """For each output and each k whether that tap reads x, and where."""
        at = np.arange(self.out(extent)) * self.stride - self.pad[0]
        taps = at[:, None] + np.arange(self.kernel) * self.dilation
        where = taps // self.spread
        return (taps % self.spread == 0) & (where >= 0) & (where < extent), where


def window_params(axes: Sequence[Axis]) -> dict[str, int]:
    """Parameters of a kernel."""
    fields = ("kernel", "stride", "dilation", "spread")
    named = dict(zip("dhw", axes, strict=True))
    params = {f"{f}_{s}": getattr(a, f) for f in fields for s, a in named.items()}
    for s, a in named.items():
        params[f"step_{s}"] = a.spread // gcd(a.spread, a.dilation)
    pads = zip(("pad_front", "pad_top", "pad_left"), axes, strict=True)
    return params | {name: a.pad[0] for name, a in pads}


def reach(axis: Axis, extent: int) -> tuple[Offsets, Offsets]:
    """First and last coordinate of x that each output reads (first > last: none)."""
    inside, where = axis.taps(extent)
    return np.where(inside, where, extent).min(axis=1), np.where(inside, where, -1).max(axis=1)


def convolve(x: Array, w: Array, axes: Sequence[Axis], groups: int) -> Array:
    """y[n][oz][oy][ox][o] of x [n][d][h][w][c] and w [o][c/groups][kd][kh][kw]."""
    for i, a in enumerate(axes):
        x = _spread(x, i + 1, a)
    filters, depth = w.shape[0] // groups, w.shape[1]
    out = [(n - (a.kernel - 1) * a.dilation - 1) // a.stride + 1
           for n, a in zip(x.shape[1:4], axes, strict=True)]  # fmt: skip
    y = np.zeros((len(x), *out, len(w)), x.dtype)
    for k in product(*(range(a.kernel) for a in axes)):
        cut = tuple(
            slice(i * a.dilation, i * a.dilation + (n - 1) * a.stride + 1, a.stride)
            for i, n, a in zip(k, out, axes, strict=True)
        )
        tap = x[:, cut[0], cut[1], cut[2]]
        for g in range(groups):
            o = slice(g * filters, (g + 1) * filters)
            y[..., o] += tap[..., g * depth : (g + 1) * depth] @ w[o, :, k[0], k[1], k[2]].T
    return y


def _spread(x: Array, index: int, axis: Axis) -> Array:
    """x with the zeros between its elements and the padding of one axis."""
    shape = list(x.shape)
    shape[index] = (shape[index] - 1) * axis.spread + 1
    y = np.zeros(shape, x.dtype)
    at = [slice(None)] * x.ndim
    at[index] = slice(None, None, axis.spread)
    y[tuple(at)] = x
    at[index] = slice(max(0, -axis.pad[0]), shape[index] - max(0, -axis.pad[1]))
    sides = [(0, 0)] * x.ndim
    sides[index] = (max(0, axis.pad[0]), max(0, axis.pad[1]))
    return np.pad(y[tuple(at)], sides)
