# SPDX-License-Identifier: Apache-2.0
"""2-D convolution of int8, channels last inside: sums are exact, and rounded once.

y[n][oy][ox][o] = scaled(b[o] + sum (x[n][iy][ix][i] - x.zero) * w[o][i][ky][kx])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.add_s8 import AddS8
from emx.builder import Lowering
from emx.depthwise_s8 import Depthwise
from emx.direct_s8 import Direct, DirectSkip
from emx.ir import Array, DType, Node, Op, TensorType
from emx.kernel import Kernel, Rows, Wishes
from emx.packing_s8 import Weighted
from emx.quant import Quant, scaled, shifts
from emx.rows import window_rows
from emx.sample import P, Q, Sample, W
from emx.target import Target
from emx.window import Layout, Window


@dataclass(frozen=True)
class Conv2dS8(Op):
    """Inputs x s8 [n][h][w][i] ([n][i][h][w] if channels_first), w s8 [o][i/groups][kh][kw], b, m
    and c s32 [o], and skip s8 of y's shape if there is `add` or `direct`.

    b is in units of x.scale * w.scale[o]; m are multipliers() of x.scale * w.scale[o] / y.scale; c
    is what of the bias is no whole unit, see scaled(). Padding holds x.zero, so it adds nothing.

    add     the skip is added to the result, whose Quant is y: what comes out is of add.y
    direct  the skip, of this Quant, is added to the sums before the rounding (DirectSkip)
    unsigned   x is u8, 128 more than what its Quant says of it; there is no skip then
    """

    name: ClassVar[str] = "conv2d_s8"
    window: Window
    groups: int
    x: Quant
    y: Quant
    lo: int
    hi: int
    add: AddS8 | None = None
    direct: Quant | None = None
    channels_first: bool = False
    unsigned: bool = False

    def layout(self, x: TensorType) -> Layout:
        """Of channels first, if there is one, only the steps differ."""
        n, c, h, w = x.dims if self.channels_first else (x.dims[i] for i in (0, 3, 1, 2))
        if self.channels_first and c > 1:
            return Layout.channels_first(n, h, w, c)
        return Layout.channels_last(n, h, w, c)

    def infer(self, *types: TensorType) -> TensorType:
        image = self.layout(types[0])
        out_h, out_w = self.window.out(image.height, image.width)
        return TensorType((image.batch, out_h, out_w, types[1].dims[0]), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, m, c, *skip = arrays
        if self.channels_first:
            x = x.transpose(0, 2, 3, 1)
        acc = self._sums(x, w.astype(np.int64)) + b.astype(np.int64)
        if self.direct:
            term = DirectSkip(self.direct, self.y).term(skip[0], shifts(m))
            return scaled(acc, m, c, self.y, self.lo, self.hi, term)
        y = scaled(acc, m, c, self.y, self.lo, self.hi)
        return self.add.reference(y, skip[0]) if self.add else y

    def _sums(self, x: Array, w: Array) -> Array:
        depth, filters = w.shape[1], w.shape[0] // self.groups
        y = np.zeros((), np.int64)
        zero = self.x.zero + 128 * self.unsigned
        for ky, kx, tap in self.window.taps(x.astype(np.int64) - zero, 0):
            parts = [
                tap[..., g * depth : (g + 1) * depth]
                @ w[g * filters : (g + 1) * filters, :, ky, kx].T
                for g in range(self.groups)
            ]
            y = y + np.concatenate(parts, axis=-1)
        return y

    def macs(self, node: Node) -> int:
        return node.output.type.size * prod(node.inputs[1].type.dims[1:])

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        return self.kernels_for(node, constants, target, Wishes())[0]

    def kernels_for(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Sequence[Kernel]:
        weighted = Weighted.of(node, constants, self.x, self.y)
        window, image = self.window, self.layout(node.inputs[0].type)
        skip = DirectSkip(self.direct, self.y) if self.direct else self.add
        if self.groups == image.channels == len(weighted.w) and not skip:
            depthwise = Depthwise.of(window, image, self.x, self.y, self.lo, self.hi)
            if kernels := depthwise.kernels(weighted, target, wishes):
                return kernels
        window, image = _pointwise_as_row(window, image)
        results = (self.y, self.lo, self.hi)
        layer = Direct(window, self.groups, image, self.x, *results, skip, self.unsigned)
        return layer.kernels(weighted, target, wishes)

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return window_rows(node, constants, target, wishes)


def _pointwise_as_row(window: Window, x: Layout) -> tuple[Window, Layout]:
    """A 1x1 convolution sees the image as one row of pixels, which leaves fewer odd pixels."""
    if window != Window((1, 1)) or x.chan != 1:
        return window, x
    return window, Layout.channels_last(1, 1, x.batch * x.height * x.width, x.channels)


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.conv2d.default", Q(1, 1, 1, 1), W(1, 1, 1, 1), P(1), y=(0.02, 0)),
    Sample("aten.conv2d.default", Q(1, 3, 5, 4, zero=-128), W(5, 3, 3, 3), P(5), [2, 2], [1, 1],
           y=(0.06, 3)),
    Sample("aten.conv2d.default", Q(1, 8, 3, 3, zero=9), W(6, 8, 1, 1), None, y=(0.04, -7)),
    Sample("aten.conv2d.default", Q(1, 6, 5, 5), W(6, 1, 3, 3), P(6), [1, 1], [1, 1], [1, 1], 6,
           y=(0.05, 20)),
    Sample("aten.conv2d.default", Q(1, 4, 6, 5), W(6, 2, 3, 2), P(6), [1, 2], [2, 1], [2, 1], 2,
           y=(0.05, 0)),
)  # fmt: skip
