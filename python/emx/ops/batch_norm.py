# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation with stored statistics: y = (x - mean) / sqrt(var + eps) * weight + bias.

It has no kernel: passes fold it into the layer before it or make it a multiply-add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Op, TensorType, Unsupported, Value
from emx.sample import P, Sample, X


@dataclass(frozen=True)
class BatchNorm(Op):
    """Inputs x, weight, bias, mean, var; the last four have one element for each of `axis`."""

    name: ClassVar[str] = "batch_norm"
    axis: int
    eps: float

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def scale_shift(self, *stats: Array) -> tuple[Array, Array]:
        """y = x * scale + shift, in float64."""
        weight, bias, mean, var = (s.astype(np.float64) for s in stats)
        scale = weight / np.sqrt(var + self.eps)
        return scale, bias - mean * scale

    def reference(self, *arrays: Array) -> Array:
        x, *stats = arrays
        scale, shift = self.scale_shift(*stats)
        shape = [-1 if i == self.axis else 1 for i in range(x.ndim)]
        return np.asarray(x * scale.reshape(shape) + shift.reshape(shape))


def lower_batch_norm(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    require_f32(x)
    if training or mean is None or var is None:
        raise Unsupported(
            "batch normalisation with the statistics of the batch is not supported",
            "call model.eval() before the export, so that the stored statistics are used",
        )
    channels = b.data(mean, "the mean of batch normalisation").shape
    if weight is None:
        weight = b.constant(np.ones(channels, np.float32), "weight")
    if bias is None:
        bias = b.constant(np.zeros(channels, np.float32), "bias")
    for v, what in ((weight, "weight"), (bias, "bias"), (var, "variance")):
        b.data(v, f"the {what} of batch normalisation")
    return b.node(BatchNorm(1, eps), x, weight, bias, mean, var)


def lower_native(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    momentum: float,
    eps: float,
) -> tuple[Value]:
    """The form of decompositions; its other two outputs are empty."""
    return (lower_batch_norm(b, x, weight, bias, mean, var, False, momentum, eps),)


ATEN: dict[str, Lowering] = {
    "aten.batch_norm.default": lower_batch_norm,
    "aten._native_batch_norm_legit_no_training.default": lower_native,
}

SAMPLES = (
    Sample(
        "aten.batch_norm.default",
        X(2, 3, 4, 5), P(3), P(3), P(3), P(3, low=0.5, high=2.0), False, 0.1, 1e-5, False,
    ),
    Sample(
        "aten.batch_norm.default",
        X(4, 3), None, None, P(3), P(3, low=0.5, high=2.0), False, 0.1, 1e-3, False,
    ),
    Sample(
        "aten._native_batch_norm_legit_no_training.default",
        X(2, 3, 4), P(3), P(3), P(3), P(3, low=0.5, high=2.0), 0.1, 1e-5,
    ),
)  # fmt: skip
