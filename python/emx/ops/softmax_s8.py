# SPDX-License-Identifier: Apache-2.0
"""Softmax of int8 along one axis, or its logarithm, in integers.

With d = max - x, both are functions of e^(-x.scale * d), a product of two of 32 constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.fixed import log2, normalise, reciprocal
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Trace
from emx.quant import Multiplier, Quant
from emx.sample import Q, Sample


def powers_of(x: Quant) -> Array:
    """e^(-16 i x.scale), then e^(-i x.scale) for i < 16, in 2^-30; int32 [32]."""
    return np.array(
        [round(exp(-x.scale * step * i) * 2**30) for step in (16, 1) for i in range(16)], np.int32
    )


@dataclass(frozen=True)
class SoftmaxS8(Op):
    """Along `axis` of x s8; the other input is `powers`, constant, what powers_of(x) gives. To the
    bit:

      e[i] = (powers[d >> 4] * powers[16 + d & 15]) >> 32   with d = max - x[i]; in 2^-28
      n, t = normalise(8 * sum(e), 32)                 so sum(e) = n * 2^(t - 3), 2^31 <= n < 2^32
      y[i] = zero + floor(e[i] * r / 2^(32 + s) + 1/2) with r = (reciprocal(n) * a) >> (31 + t)

    where the product e * r loses its lower 32 bits before it is rounded; or, of the logarithm,

      y[i] = zero + floor(-(d * a + c) / 2^s + 1/2)    with c = ((log2(n) + t * 2^20) * b) >> 20
    """

    name: ClassVar[str] = "softmax_s8"
    axis: int
    x: Quant
    y: Quant
    log: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, powers = arrays[0], arrays[1].astype(np.int64)
        if x.size == 0:
            return x
        a, b, s = self._multipliers()
        rows = np.moveaxis(x.astype(np.int64).reshape(x.shape or (1,)), self.axis, -1)
        d = rows.max(axis=-1, keepdims=True) - rows
        e = powers[d >> 4] * powers[16 + (d & 15)] >> 32
        n, t = normalise(8 * e.sum(axis=-1, keepdims=True), 32)
        if self.log:
            v = -(d * a + ((log2(n) + (t << 20)) * b >> 20))
        else:
            v = e * (reciprocal(n) * a >> (31 + t)) >> 32
        y = np.clip(self.y.zero + (v + (1 << (s - 1)) >> s), self.y.lo, self.y.hi)
        return np.asarray(np.moveaxis(y.astype(np.int8), -1, self.axis).reshape(x.shape))

    def _multipliers(self) -> tuple[int, int, int]:
        """(a, b, s): what y.scale makes of 1 is a * 2^-(s + 3); or, of the logarithm, what it makes
        of x.scale is a * 2^-s and of ln(2) b * 2^-s."""
        if self.log:
            parts = (self.x.scale / self.y.scale, log(2) / self.y.scale)
            s = Multiplier.of(max(parts)).shift if max(parts) < 2**29 else 0
            return round(parts[0] * 2.0**s), round(parts[1] * 2.0**s), s
        shift = min(Multiplier.of(1 / self.y.scale).shift, 33) if self.y.scale > 2**-29 else 0
        return round(2.0**shift / self.y.scale), 0, shift - 3

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        a, b, s = self._multipliers()
        if s < 1:
            raise Unsupported(
                f"a softmax in steps of {self.y.scale:.3g} is not supported",
                "quantise it with a scale of 1/256",
            )
        dims = node.output.type.dims or (1,)
        outer, length, inner = prod(dims[: self.axis]), dims[self.axis], prod(dims[self.axis + 1 :])
        outer = outer if length else 0
        return Kernel(
            header="softmax_s8",
            function="emx_log_softmax_s8" if self.log else "emx_softmax_s8",
            inputs={"x": 0},
            params={
                "outer": outer, "len": length, "inner": inner,
                "zero": self.y.zero, "lo": self.y.lo, "hi": self.y.hi,
                "a": a, "b": b, "s": s,
            },
            key=("inner",),
            weights={"powers": constants[node.inputs[1].name]},
            overlap={"x": _column_order(outer, length, inner)},
            types={"x": "int8_t", "powers": "int32_t", "y": "int8_t"},
        )  # fmt: skip


def _column_order(outer: int, length: int, inner: int) -> Trace:
    """Column after column, and of each column all of x before all of y."""
    if inner == 1:
        lo = np.arange(outer) * length
        return Trace(lo, lo + length, lo, lo + length)
    at = np.arange(outer * length * inner).reshape(outer, length, inner).transpose(0, 2, 1).ravel()
    return Trace(at, at + 1, at, at + 1)  # x is read for the last time just before its y is written


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.softmax.int", Q(1, 1), -1, y=(1 / 256, -128)),
    Sample("aten.softmax.int", Q(3, 10, scale=0.1, zero=7), 1, y=(1 / 256, -128)),
    Sample("aten.softmax.int", Q(2, 5, 3), 1, y=(0.003, -90)),
    Sample("aten.log_softmax.int", Q(3, 10, scale=0.1), 1, y=(0.11, 100)),
)
