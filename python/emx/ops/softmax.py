# SPDX-License-Identifier: Apache-2.0
"""y[i] = exp(x[i] - max(x)) / sum_j exp(x[j] - max(x)), or its logarithm, along one axis.

The logarithm of the sum alone is logsumexp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Along `axis` of x."""

    name: ClassVar[str] = "softmax"
    axis: int
    log: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        if x.size == 0:
            return x
        axis = self.axis if x.ndim else None
        shifted = x - x.max(axis=axis, keepdims=True)
        e = np.exp(shifted)
        if self.log:
            return np.asarray(shifted - np.log(e.sum(axis=axis, keepdims=True)))
        return np.asarray(e / e.sum(axis=axis, keepdims=True))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        outer, length, inner = _split(node.output.type.dims or (1,), self.axis)
        return Kernel(
            header="softmax",
            function="emx_log_softmax_f32" if self.log else "emx_softmax_f32",
            inputs={"x": 0},
            params={"outer": outer, "len": length, "inner": inner},
            key=("inner",),
            overlap={"x": _column_order(outer, length, inner)},
        )


@dataclass(frozen=True)
class LogSumExp(Op):
    """log(sum_j exp(x[j])) over `axis`, which goes; without overflow."""

    name: ClassVar[str] = "logsumexp"
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        dims = types[0].dims
        return TensorType((*dims[: self.axis], *dims[self.axis + 1 :]))

    def reference(self, *arrays: Array) -> Array:
        return np.asarray(np.logaddexp.reduce(arrays[0], axis=self.axis))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        outer, length, inner = _split(node.inputs[0].type.dims, self.axis)
        return Kernel(
            header="softmax",
            function="emx_logsumexp_f32",
            inputs={"x": 0},
            params={"outer": outer, "len": length, "inner": inner},
            key=("inner",),
        )


def _split(dims: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """x as [outer][length][inner]."""
    return prod(dims[:axis]), dims[axis], prod(dims[axis + 1 :])


def _column_order(outer: int, length: int, inner: int) -> Trace:
    """Column after column, and of each column all of x before all of y."""
    if inner == 1:
        lo = np.arange(outer) * length * 4
        return Trace(lo, lo + length * 4, lo, lo + length * 4)
    size = outer * length * inner
    columns = np.arange(size).reshape(outer, length, inner).transpose(0, 2, 1)
    at = columns.ravel() * 4  # x is read for the last time just before its y is written
    return Trace(at, at + 4, at, at + 4)


def _lowering(log: bool) -> Lowering:
    """aten.softmax.int has an optional dtype; aten._softmax has `half_to_float` there."""

    def lower(b: Builder, x: Value, dim: int, dtype: DType | bool | None = None) -> Value:
        require_f32(x)
        return b.node(Softmax(axis_of(dim, x.type.rank), log), x)

    return lower


def lower_logsumexp(b: Builder, x: Value, dim: Sequence[int], keepdim: bool = False) -> Value:
    """Several axes become one, the last."""
    require_f32(x)
    rank = x.type.rank
    axes = sorted({axis_of(d, rank) for d in dim} or range(rank))
    dims = x.type.dims
    kept = [i for i in range(rank) if i not in axes]
    if rank == 0 or len(axes) > 1:
        joined = b.aten("aten.permute.default", x, [*kept, *axes]) if rank else x
        shape = [*(dims[i] for i in kept), prod(dims[i] for i in axes if rank)]
        x, axes = b.aten("aten.reshape.default", joined, shape), [len(kept)]
    y = b.node(LogSumExp(axes[0]), x)
    if keepdim and rank:
        y = b.aten("aten.reshape.default", y, [n if i in kept else 1 for i, n in enumerate(dims)])
    return y


ATEN: dict[str, Lowering] = {
    "aten.softmax.int": _lowering(log=False),
    "aten._softmax.default": _lowering(log=False),
    "aten.log_softmax.int": _lowering(log=True),
    "aten._log_softmax.default": _lowering(log=True),
    "aten.logsumexp.default": lower_logsumexp,
}

SAMPLES = (
    Sample("aten.softmax.int", X(0, 3), 1),
    Sample("aten.softmax.int", X(1, 1), -1),
    Sample("aten.softmax.int", X(), 0),
    Sample("aten.softmax.int", X(3, 10, low=-90.0, high=90.0), 1),
    Sample("aten.softmax.int", X(2, 5, 3), 1),
    Sample("aten.softmax.int", X(4, 3), 0),
    Sample("aten.softmax.int", X(2, 3, 4, 5), -3),
    Sample("aten._softmax.default", X(2, 12), -1, False),
    Sample("aten.log_softmax.int", X(3, 10, low=-90.0, high=90.0), 1),
    Sample("aten.log_softmax.int", X(), -1),
    Sample("aten._log_softmax.default", X(2, 5, 3), 1, False),
    Sample("aten.logsumexp.default", X(), [0]),
    Sample("aten.logsumexp.default", X(3, 10, low=-90.0, high=90.0), [1]),
    Sample("aten.logsumexp.default", X(2, 5, 3), [-2], True),
    Sample("aten.logsumexp.default", X(2, 5, 3), [0, 2], True),
)
