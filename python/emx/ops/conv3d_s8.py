# SPDX-License-Identifier: Apache-2.0
"""Transposed and 3-D convolutions of int8, channels last: conv3d.py in integers.

Outputs whose places differ by a multiple of `spread` are hit by the same taps: they are a phase,
and each phase is a convolution of its own with the filters' taps that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from emx.axis import Axis, convolve, reach, window_params
from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType
from emx.kernel import Kernel, Param, Trace
from emx.packing_s8 import STAGED, Weighted, pack_weights, padded_depth
from emx.quant import Quant, scaled
from emx.sample import P, Q, Sample, W
from emx.target import Target


@dataclass(frozen=True)
class Conv3dS8(Op):
    """Inputs x s8 [n][d][h][w][c], w s8 [o][c/groups][kd][kh][kw], b, m and c s32 [o], as those of
    Conv2dS8."""

    name: ClassVar[str] = "conv3d_s8"
    axes: tuple[Axis, Axis, Axis]
    groups: int
    x: Quant
    y: Quant
    lo: int
    hi: int

    def infer(self, *types: TensorType) -> TensorType:
        n, *extents, _ = types[0].dims
        out = tuple(a.out(e) for a, e in zip(self.axes, extents, strict=True))
        return TensorType((n, *out, types[1].dims[0]), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, m, c = arrays
        real = x.astype(np.float64) - self.x.zero  # sums are exact below 2^53
        acc = convolve(real, w.astype(np.float64), self.axes, self.groups).astype(np.int64) + b
        return scaled(acc, m, c, self.y, self.lo, self.hi)

    def macs(self, node: Node) -> int:
        per_output = prod(node.inputs[1].type.dims[1:]) // prod(a.spread for a in self.axes)
        return node.output.type.size * per_output

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        n, d, h, width, c = node.inputs[0].type.dims
        _, out_d, out_h, out_w, out_c = node.output.type.dims
        phases = self._phases(node, constants)
        wide = any(p.wide for p in phases)
        depth = max(padded_depth(p.depth, target) for p in phases)
        params: dict[str, Param] = {
            "batch": n, "in_d": d, "in_h": h, "in_w": width, "in_c": c,
            "out_d": out_d, "out_h": out_h, "out_w": out_w, "out_c": out_c,
            **window_params(self.axes),
            "groups": self.groups, "depth": depth, "wide": int(wide), "x_zero": self.x.zero,
            "lo": self.lo, "hi": self.hi,
        }  # fmt: skip
        packed = [pack_weights(p.w, self.groups, target).reshape(-1) for p in phases]
        q = np.stack([p.params(self.groups) for p in phases])
        return Kernel(
            header="conv3d_s8",
            function="emx_conv3d_s8",
            inputs={"x": 0},
            params=params,
            key=("spread_d", "spread_h", "spread_w", "groups", "wide"),
            weights={"w": np.concatenate(packed), "q": q},
            scratch_bytes=(6 if STAGED[target.dot] == 4 else 2) * depth,
            overlap={"x": self._trace(node.inputs[0].type, node.output.type)},
            types=dict.fromkeys(("x", "w", "y"), "int8_t"),
        )  # fmt: skip

    def _phases(self, node: Node, constants: Mapping[str, Array]) -> list[Weighted]:
        """Of each phase, z outermost, its filters and what goes with them."""
        w = node.inputs[1]
        taps = [[_taps(a, phase) for phase in range(a.spread)] for a in self.axes]
        found = []
        for z, y, x in product(*taps):
            part = constants[w.name][:, :, z, y, x]
            if not part.size:  # kernels want a tap
                part = np.zeros((*part.shape[:2], 1, 1, 1), np.int8)
            found.append(Weighted.of(node, {**constants, w.name: part}, self.x, self.y))
        return found

    def _trace(self, x: TensorType, y: TensorType) -> Trace:
        """The order of the C: row by row, in a row phase by phase, two pixels of a phase at once,
        group by group. Such a step reads its windows, then writes the pixels one by one."""
        n, *extents, c = x.dims
        _, out_d, out_h, out_w, out_c = y.dims
        (z0, z1), (y0, y1), (x0, x1) = (
            reach(a, e) for a, e in zip(self.axes, extents, strict=True)
        )
        inner, outer = c // self.groups, out_c // self.groups
        events = [
            (ox, i == 0, min(x0[tile]), max(x1[tile]), g * outer, g * inner)
            for tile in _pairs(self.axes[2].spread, out_w)
            for g in range(self.groups)
            for i, ox in enumerate(tile)
        ]
        ox, first, left, right, out_lo, in_lo = np.array(events, np.int64).reshape(-1, 6).T
        image, oz, oy = (i[..., None] for i in np.indices((n, out_d, out_h)))
        read = (first == 1) & (left <= right) & (z0[oz] <= z1[oz]) & (y0[oy] <= y1[oy])
        start = image * prod(extents)
        corner = ((start + (z0[oz] * extents[1] + y0[oy]) * extents[2]) + left) * c + in_lo
        end = ((start + (z1[oz] * extents[1] + y1[oy]) * extents[2]) + right) * c + in_lo + inner
        at = (((image * out_d + oz) * out_h + oy) * out_w + ox) * out_c + out_lo
        lo, hi = (np.where(read, v, 0).ravel() for v in (corner, end))
        return Trace(lo, hi, at.ravel(), at.ravel() + outer)


def _taps(axis: Axis, phase: int) -> slice:
    """Those of the taps of an axis that hit outputs of a phase."""
    at = phase * axis.stride - axis.pad[0]
    hits = [k for k in range(axis.kernel) if (at + k * axis.dilation) % axis.spread == 0]
    step = window_params((axis,) * 3)["step_d"]
    return slice(hits[0], None, step) if hits else slice(0, 0)


def _pairs(spread: int, out_w: int) -> Sequence[list[int]]:
    """The pixels of a row that are computed at once."""
    return [
        [ox for ox in (at, at + spread) if ox < out_w]
        for phase in range(min(spread, out_w))
        for at in range(phase, out_w, 2 * spread)
    ]


ATEN: dict[str, Lowering] = {}

_C, _T = "aten.conv3d.default", "aten.conv_transpose2d.input"

SAMPLES = (
    Sample(_T, Q(1, 1, 1, 1), W(1, 1, 1, 1, axis=1), P(1), [2, 2], y=(0.05, 0)),
    Sample(_T, Q(1, 3, 4, 9, zero=-128), W(3, 5, 2, 2, axis=1), P(5), [2, 2], y=(0.06, -20)),
    Sample(_T, Q(2, 4, 5, 6), W(4, 6, 4, 4, axis=1), P(6), [2, 2], [1, 1], y=(0.11, 3)),
    Sample(_C, Q(2, 3, 4, 5, 9), W(4, 3, 2, 3, 3), P(4), [1, 2, 1], [0, 1, 2], y=(0.2, 0)),
)
