# SPDX-License-Identifier: Apache-2.0
"""The reduction table: y = finish(combine(... combine(init, x0) ..., x(n-1)), n) over any axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of, require_f32
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Scalar
from emx.sample import Sample, X


@dataclass(frozen=True)
class Row:
    """A reduction; `combine` and `finish` are C expressions of (acc, v) and (acc, n)."""

    reference: Callable[..., Array]
    init: float
    combine: str
    finish: str = "acc"


TABLE: Mapping[str, Row] = {
    "sum": Row(np.sum, 0.0, "acc + v"),
    "mean": Row(np.mean, 0.0, "acc + v", "acc / n"),
    "amax": Row(np.max, -inf, "v > acc || v != v ? v : acc"),
    "amin": Row(np.min, inf, "v < acc || v != v ? v : acc"),
}

MAX_RANK = 4


@dataclass(frozen=True)
class Reduce(Op):
    """Reduce `axes` (ascending, not negative) of x; they stay with extent 1 if `keepdim`."""

    name: ClassVar[str] = "reduce"
    row: str
    axes: tuple[int, ...]
    keepdim: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        dims = types[0].dims
        if self.keepdim:
            return TensorType(tuple(1 if i in self.axes else n for i, n in enumerate(dims)))
        return TensorType(tuple(n for i, n in enumerate(dims) if i not in self.axes))

    def reference(self, *arrays: Array) -> Array:
        return np.asarray(TABLE[self.row].reference(arrays[0], self.axes, keepdims=self.keepdim))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        dims = node.inputs[0].type.dims
        keep, keep_step = _merged(dims, [i for i in range(len(dims)) if i not in self.axes])
        over, over_step = _merged(dims, list(self.axes))
        if max(len(keep), len(over)) > MAX_RANK:
            raise Unsupported(
                f"a reduction over scattered axes of {node.inputs[0].type} is not supported",
                "permute the reduced axes next to each other",
            )
        row = TABLE[self.row]
        return Kernel(
            header="reduce",
            function="emx_reduce_f32",
            inputs={"x": 0},
            params={
                "keep": _aligned(keep, 1), "keep_step": _aligned(keep_step, 0),
                "over": _aligned(over, 1), "over_step": _aligned(over_step, 0),
                "init": row.init,
            },
            key=("over_step",),
            scalars=(
                Scalar("combine", ("acc", "v"), row.combine),
                Scalar("finish", ("acc", "n"), row.finish),
            ),
        )  # fmt: skip


def _merged(dims: tuple[int, ...], axes: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents and steps of the chosen axes of a contiguous tensor, neighbours merged."""
    steps = [int(np.prod(dims[i + 1 :], dtype=np.int64)) for i in range(len(dims))]
    extent: list[int] = []
    step: list[int] = []
    for i in axes:
        if dims[i] == 1:
            continue
        if step and step[-1] == steps[i] * dims[i]:
            extent[-1] *= dims[i]
            step[-1] = steps[i]
        else:
            extent.append(dims[i])
            step.append(steps[i])
    return tuple(extent), tuple(step)


def _aligned(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    return (fill,) * (MAX_RANK - len(values)) + values


def _reduce(b: Builder, row: str, x: Value, dim: Sequence[int] | None, keepdim: bool) -> Value:
    require_f32(x)
    rank = x.type.rank
    axes = range(rank) if not dim else sorted({axis_of(d, rank) for d in dim})
    return b.node(Reduce(row, tuple(a for a in axes if a < rank), keepdim), x)


def _statistic(row: str) -> Lowering:
    """aten.mean.dim(x, dim, keepdim, *, dtype) and its like."""

    def lower(
        b: Builder,
        x: Value,
        dim: Sequence[int] | None = None,
        keepdim: bool = False,
        dtype: DType | None = None,
    ) -> Value:
        return _reduce(b, row, x, dim, keepdim)

    return lower


def _whole(row: str) -> Lowering:
    """aten.mean.default(x, *, dtype): over all axes."""

    def lower(b: Builder, x: Value, dtype: DType | None = None) -> Value:
        return _reduce(b, row, x, None, False)

    return lower


ATEN: dict[str, Lowering] = {
    "aten.mean.dim": _statistic("mean"),
    "aten.mean.default": _whole("mean"),
    "aten.sum.dim_IntList": _statistic("sum"),
    "aten.sum.default": _whole("sum"),
    "aten.amax.default": _statistic("amax"),
    "aten.amin.default": _statistic("amin"),
}

SAMPLES = (
    Sample("aten.mean.dim", X(1, 1), [0, 1]),
    Sample("aten.mean.dim", X(2, 3, 4, 5), [2, 3], True),
    Sample("aten.mean.dim", X(2, 3, 4, 5), [1, -1]),
    Sample("aten.mean.dim", X(3, 4), None),
    Sample("aten.mean.default", X(2, 3)),
    Sample("aten.sum.default", X(2, 3)),
    Sample("aten.sum.dim_IntList", X(2, 3, 4), [0]),
    Sample("aten.sum.dim_IntList", X(2, 3, 4), [0, 2], True),
    Sample("aten.amax.default", X(5, 6), [1]),
    Sample("aten.amin.default", X(5, 6), [0], True),
)
