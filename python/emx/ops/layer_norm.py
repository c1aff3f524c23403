# SPDX-License-Identifier: Apache-2.0
"""y = (x - mean) / sqrt(var + eps) * w + b, over the last axes of x (Ba, Kiros, Hinton, 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace
from emx.sample import P, Sample, X


@dataclass(frozen=True)
class LayerNorm(Op):
    """Inputs x, w and b; the shape of w and b is that of the normalised axes. The variance is that
    of the row, divided by its length."""

    name: ClassVar[str] = "layer_norm"
    eps: float

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        x, w, b = arrays
        axes = tuple(range(x.ndim - w.ndim, x.ndim))
        centred = x - x.mean(axis=axes, keepdims=True)
        var = (centred**2).mean(axis=axes, keepdims=True)
        return np.asarray(centred / np.sqrt(var + self.eps) * w + b)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, w, b = node.inputs
        length = w.type.size
        rows = prod(x.type.dims) // length
        lo = np.arange(rows) * length * 4
        hi = lo + length * 4  # within a row, x[i] is read for the last time before y[i] is written
        return Kernel(
            header="layer_norm",
            function="emx_layer_norm_f32",
            inputs={"x": 0},
            params={"rows": rows, "len": length, "eps": self.eps},
            key=(),
            weights={"w": constants[w.name], "b": constants[b.name]},
            overlap={"x": Trace(lo, hi, lo, hi)},
        )


def lower_layer_norm(
    b: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    require_f32(x)
    if weight is None:
        weight = b.constant(np.ones(tuple(shape), np.float32), "weight")
    if bias is None:
        bias = b.constant(np.zeros(tuple(shape), np.float32), "bias", beside=weight)
    b.data(weight, "the weight of a layer norm")
    b.data(bias, "the bias of a layer norm")
    return b.node(LayerNorm(eps), x, weight, bias)


def lower_native(
    b: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> tuple[Value]:
    """The form of decompositions; its other two outputs are means and variances."""
    return (lower_layer_norm(b, x, shape, weight, bias, eps),)


ATEN: dict[str, Lowering] = {
    "aten.layer_norm.default": lower_layer_norm,
    "aten.native_layer_norm.default": lower_native,
}

SAMPLES = (
    Sample("aten.layer_norm.default", X(1), [1]),
    Sample("aten.layer_norm.default", X(7), [7], P(7), P(7), 1e-3),
    Sample("aten.layer_norm.default", X(3, 5, 8, low=90.0, high=100.0), [8], P(8), P(8)),
    Sample("aten.layer_norm.default", X(2, 3, 4), [3, 4], P(3, 4), None),
    Sample("aten.layer_norm.default", X(2, 3, 4), [2, 3, 4]),
    Sample("aten.native_layer_norm.default", X(3, 6), [6], P(6), P(6), 1e-5),
)
