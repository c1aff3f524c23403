# SPDX-License-Identifier: Apache-2.0
"""y[i] = exp(x[i] - max(x)) / sum_j exp(x[j] - max(x)), along one axis (innermost inside)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of, require_f32
from emx.ir import Array, DType, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace
from emx.sample import Sample, X


@dataclass(frozen=True)
class Softmax(Op):
    name: ClassVar[str] = "softmax"

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        *outer, length = node.output.type.dims or (1,)
        lo = np.arange(prod(outer)) * length * 4
        hi = lo + length * 4  # within a row, x[i] is read for the last time before y[i] is written
        return Kernel(
            header="softmax",
            function="emx_softmax_f32",
            inputs={"x": 0},
            params={"rows": prod(outer), "len": length},
            key=(),
            overlap={"x": Trace(lo, hi, lo, hi)},
        )


def lower_softmax(b: Builder, x: Value, dim: int, dtype: DType | bool | None = None) -> Value:
    """aten.softmax.int has an optional dtype; aten._softmax has `half_to_float` there."""
    require_f32(x)
    axis, last = axis_of(dim, x.type.rank), max(x.type.rank - 1, 0)
    if axis == last:
        return b.node(Softmax(), x)
    perm = [i for i in range(x.type.rank) if i != axis] + [axis]
    y = b.node(Softmax(), b.aten("aten.permute.default", x, perm))
    return b.aten("aten.permute.default", y, [perm.index(i) for i in range(x.type.rank)])


ATEN: dict[str, Lowering] = {
    "aten.softmax.int": lower_softmax,
    "aten._softmax.default": lower_softmax,
}

SAMPLES = (
    Sample("aten.softmax.int", X(1, 1), -1),
    Sample("aten.softmax.int", X(3, 10, low=-90.0, high=90.0), 1),
    Sample("aten.softmax.int", X(2, 5, 3), 1),
    Sample("aten.softmax.int", X(4, 3), 0),
    Sample("aten.softmax.int", X(), 0),
    Sample("aten._softmax.default", X(2, 12), -1, False),
)
