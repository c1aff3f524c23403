# SPDX-License-Identifier: Apache-2.0
"""y = x / sqrt(mean(x^2) + eps) * w, over the last axes of x (Zhang, Sennrich, 2019)."""

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
class RmsNorm(Op):
    """Inputs x and w; the shape of w is that of the normalised axes."""

    name: ClassVar[str] = "rms_norm"
    eps: float

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        x, w = arrays
        axes = tuple(range(x.ndim - w.ndim, x.ndim))
        return np.asarray(x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + self.eps) * w)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, w = node.inputs
        length = w.type.size
        rows = prod(x.type.dims) // length
        lo = np.arange(rows) * length * 4
        hi = lo + length * 4  # within a row, x[i] is read for the last time before y[i] is written
        return Kernel(
            header="rms_norm",
            function="emx_rms_norm_f32",
            inputs={"x": 0},
            params={"rows": rows, "len": length, "eps": self.eps},
            key=(),
            weights={"w": constants[w.name]},
            overlap={"x": Trace(lo, hi, lo, hi)},
        )


def lower_rms_norm(
    b: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    require_f32(x)
    if weight is None:
        weight = b.constant(np.ones(tuple(shape), np.float32), "weight")
    b.data(weight, "the weight of an RMS norm")
    return b.node(RmsNorm(float(np.finfo(np.float32).eps) if eps is None else eps), x, weight)


ATEN: dict[str, Lowering] = {"aten.rms_norm.default": lower_rms_norm}

SAMPLES = (
    Sample("aten.rms_norm.default", X(1), [1]),
    Sample("aten.rms_norm.default", X(7), [7], P(7), 1e-3),
    Sample("aten.rms_norm.default", X(3, 5, 8, low=90.0, high=100.0), [8], P(8)),
    Sample("aten.rms_norm.default", X(2, 3, 4), [3, 4], P(3, 4), 1e-6),
)
