# SPDX-License-Identifier: Apache-2.0
"""y[n][o] = scaled(b[o] + sum_k (x[n][k] - x.zero) * w[o][k]), over the last axis of x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.direct_s8 import Direct
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Wishes
from emx.packing_s8 import BLOCK, Weighted
from emx.quant import Quant, scaled
from emx.sample import P, Q, Sample, W
from emx.target import Target
from emx.window import Column, Layout, Pixels, Window, window_traces


@dataclass(frozen=True)
class LinearS8(Op):
    """Inputs x s8 [...][in], w s8 [out][in], b, m and c s32 [out], as those of Conv2dS8."""

    name: ClassVar[str] = "linear_s8"
    x: Quant
    y: Quant
    lo: int
    hi: int

    def infer(self, *types: TensorType) -> TensorType:
        x, w = types[:2]
        if x.dims[-1] != w.dims[1]:
            raise Unsupported(f"{x} does not match the weight {w}", "check the layer's size")
        return TensorType((*x.dims[:-1], w.dims[0]), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, m, c = arrays
        acc = (x.astype(np.int64) - self.x.zero) @ w.astype(np.int64).T + b.astype(np.int64)
        return scaled(acc, m, c, self.y, self.lo, self.hi)

    def macs(self, node: Node) -> int:
        return node.output.type.size * node.inputs[1].type.dims[1]

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        return self.kernels_for(node, constants, target, Wishes())[0]

    def kernels_for(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Sequence[Kernel]:
        """Several rows are the pixels of a 1x1 convolution."""
        rows, inner = prod(node.output.type.dims[:-1]), node.inputs[1].type.dims[1]
        layer = Weighted.of(node, constants, self.x, self.y)
        if rows == 1:
            return (self._row(layer, target, wishes),)
        image = Layout.channels_last(1, 1, rows, inner)
        direct = Direct(Window((1, 1)), 1, image, self.x, self.y, self.lo, self.hi)
        return direct.kernels(layer, target, wishes)

    def _row(self, layer: Weighted, target: Target, wishes: Wishes) -> Kernel:
        """One row is read as it lies, again for each block of outputs."""
        packed = layer.packed(self.y, 1, target, compact=wishes.optimize == "size")
        inner, outputs, staged = layer.depth, len(layer.w), packed.depth != layer.depth
        step = outputs if staged else BLOCK
        columns = [Column(o, min(o + step, outputs), 0, inner) for o in range(0, outputs, step)]
        image = Layout.channels_last(1, 1, 1, inner)
        x, _ = window_traces(Window((1, 1)), image, [Pixels(0, 1, columns)], 1)
        return Kernel(
            header="linear_s8",
            function="emx_linear_staged_s8" if staged else "emx_linear_s8",
            inputs={"x": 0},
            params={
                "in": inner, "out": outputs, "depth": packed.depth, **packed.how,
                "zero": self.y.zero, "lo": self.lo, "hi": self.hi,
            },
            key=tuple(packed.how),
            weights={"w": packed.w, "q": packed.q},
            scratch_bytes=packed.depth if staged else 0,
            overlap={"x": x},
            types=dict.fromkeys(("x", "w", "y"), "int8_t"),
        )  # fmt: skip


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.linear.default", Q(1), W(1, 1), P(1), y=(0.03, 0)),
    Sample("aten.linear.default", Q(1, 10, zero=-128), W(5, 10), P(5), y=(0.05, -10)),
    Sample("aten.linear.default", Q(3, 17), W(6, 17, axis=None), y=(0.08, 4)),
)
