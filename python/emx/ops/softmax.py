# SPDX-License-Identifier: Apache-2.0
"""y[i] = exp(x[i] - max(x)) / sum_j exp(x[j] - max(x)), or its logarithm, along one axis."""

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
    """Along the last axis of x."""

    name: ClassVar[str] = "softmax"
    log: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        shifted = x - x.max(axis=-1, keepdims=True)
        e = np.exp(shifted)
        if self.log:
            return np.asarray(shifted - np.log(e.sum(axis=-1, keepdims=True)))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        *outer, length = node.output.type.dims or (1,)
        lo = np.arange(prod(outer)) * length * 4
        hi = lo + length * 4  # within a row, x[i] is read for the last time before y[i] is written
        return Kernel(
            header="softmax",
            function="emx_log_softmax_f32" if self.log else "emx_softmax_f32",
            inputs={"x": 0},
            params={"rows": prod(outer), "len": length},
            key=(),
            overlap={"x": Trace(lo, hi, lo, hi)},
        )


def _lowering(log: bool) -> Lowering:
    """aten.softmax.int has an optional dtype; aten._softmax has `half_to_float` there."""

    def lower(b: Builder, x: Value, dim: int, dtype: DType | bool | None = None) -> Value:
        require_f32(x)
        axis, last = axis_of(dim, x.type.rank), max(x.type.rank - 1, 0)
        if axis == last:
            return b.node(Softmax(log), x)
        perm = [i for i in range(x.type.rank) if i != axis] + [axis]
        y = b.node(Softmax(log), b.aten("aten.permute.default", x, perm))
        return b.aten("aten.permute.default", y, [perm.index(i) for i in range(x.type.rank)])

    return lower


ATEN: dict[str, Lowering] = {
    "aten.softmax.int": _lowering(log=False),
    "aten._softmax.default": _lowering(log=False),
    "aten.log_softmax.int": _lowering(log=True),
    "aten._log_softmax.default": _lowering(log=True),
}

SAMPLES = (
    Sample("aten.softmax.int", X(1, 1), -1),
    Sample("aten.softmax.int", X(3, 10, low=-90.0, high=90.0), 1),
    Sample("aten.softmax.int", X(2, 5, 3), 1),
    Sample("aten.softmax.int", X(4, 3), 0),
    Sample("aten.softmax.int", X(), 0),
    Sample("aten._softmax.default", X(2, 12), -1, False),
    Sample("aten.log_softmax.int", X(3, 10, low=-90.0, high=90.0), 1),
    Sample("aten._log_softmax.default", X(2, 5, 3), 1, False),
)
