# SPDX-License-Identifier: Apache-2.0
"""y[n][o] = clamp(b[o] + sum_k x[n][k] * w[o][k] (+ skip[n][o])), over the last axis of x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel
from emx.sample import P, Sample, X
from emx.target import Target
from emx.window import Column, Layout, Pixels, Tiling, Window, pad_columns, window_traces


@dataclass(frozen=True)
class Linear(Op):
    """Inputs x [...][in], w [out][in], b [out], and skip of y's shape if `residual`."""

    name: ClassVar[str] = "linear"
    lo: float = -inf
    hi: float = inf
    residual: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        x, w = types[:2]
        if x.dims[-1] != w.dims[1]:
            raise Unsupported(f"{x} does not match the weight {w}", "check the layer's size")
        return TensorType((*x.dims[:-1], w.dims[0]), x.dtype)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, *skip = arrays
        return np.clip(x @ w.T + b + (skip[0] if skip else 0.0), self.lo, self.hi)

    def macs(self, node: Node) -> int:
        return node.output.type.size * node.inputs[1].type.dims[1]

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        w, b = (constants[v.name] for v in node.inputs[1:3])
        rows, (out, inner) = prod(node.output.type.dims[:-1]), w.shape
        window, tiling = Window((1, 1)), Tiling(target.tile, wide=True)
        tiles = [
            Pixels(at, n, [Column(*o, 0, inner) for o in tiling.columns(n, out)])
            for at, n in tiling.pixels(window, rows, rows)
        ]
        x, skip = window_traces(window, Layout.channels_last(1, 1, rows, inner), tiles, 4)
        return Kernel(
            header="linear",
            function="emx_linear_add_f32" if self.residual else "emx_linear_f32",
            inputs={"x": 0, "skip": 3} if self.residual else {"x": 0},
            params={
                "rows": rows,
                "in": inner,
                "out": out,
                "tail": out % target.tile.lanes,
                "lo": self.lo,
                "hi": self.hi,
            },
            key=("rows", "tail", "lo", "hi"),
            weights={"w": _pack(w, target.tile.lanes), "b": pad_columns(b, target.tile.lanes)},
            overlap={"x": x, "skip": skip} if self.residual else {"x": x},
        )


def _pack(w: Array, lanes: int) -> Array:
    """[out][in] -> [ceil(out/lanes)][in][lanes], zero-padded; a view where nothing is padded."""
    out, inner = w.shape
    if out % lanes:
        w = np.concatenate([w, np.zeros((-out % lanes, inner), w.dtype)])
    return w.reshape(-1, lanes, inner).transpose(0, 2, 1)


def lower_linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    require_f32(x)
    w = b.data(weight, "the weight of a linear layer")
    if bias is None:
        bias = b.constant(np.zeros(len(w), w.dtype), "bias", beside=weight)
    b.data(bias, "the bias of a linear layer")
    return b.node(Linear(), x, weight, bias)


ATEN: dict[str, Lowering] = {"aten.linear.default": lower_linear}

SAMPLES = (
    Sample("aten.linear.default", X(1, 1), P(1, 1)),
    Sample("aten.linear.default", X(7), P(3, 7), P(3)),
    Sample("aten.linear.default", X(1, 10), P(4, 10), P(4)),
    Sample("aten.linear.default", X(2, 3, 5), P(9, 5), P(9)),
    Sample("aten.linear.default", X(4, 6), P(6, 6), P(6)),
)
