# SPDX-License-Identifier: Apache-2.0
"""The operator of all pointwise calls: y[i] = f(a[i], b[i], ...) with NumPy's broadcasting.

f is made of the table in emx/scalars.py; a chain of rows is an expression, so fused operators are
one loop. The modules under ops/ write with apply() and compute().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, promoted
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Rows, Scalar, Trace, Wishes
from emx.rows import same_rows
from emx.scalars import TABLE, Call, bare
from emx.target import Target

# Element types that expressions compute in; others are only converted from and to.
COMPUTED = (DType.F32, DType.S32, DType.S64, DType.BOOL)


@dataclass(frozen=True)
class Pointwise(Op):
    """`expr` of inputs that broadcast to the output's shape."""

    name: ClassVar[str] = "pointwise"
    MAX_INPUTS: ClassVar[int] = 4
    MAX_RANK: ClassVar[int] = 4
    expr: Call

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(broadcast(*types), self.expr.type(tuple(t.dtype for t in types)))

    def reference(self, *arrays: Array) -> Array:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return np.broadcast_to(self.expr.evaluate(arrays), shape)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        y = node.output.type
        extent, steps = collapse(y.dims, [v.type.dims for v in node.inputs])
        types = [v.type.dtype for v in node.inputs]
        names = ("a", "b", "c", "d")[: len(types)]
        sized = [
            tuple(s * t.bytes for s in right_aligned(step, self.MAX_RANK, 0))
            for step, t in zip(steps, types, strict=True)
        ]
        return Kernel(
            header="pointwise",
            function="emx_pointwise",
            inputs={k: i for i, k in enumerate(names)},
            params={
                "inputs": len(types),
                "size": y.dtype.bytes,
                "extent": right_aligned(extent, self.MAX_RANK, 1),
                "step": tuple(sized),
            },
            key=("inputs", "size", "step"),
            overlap={
                k: _in_order(y, v.type)
                for k, v in zip(names, node.inputs, strict=True)
                if v.type.dims == y.dims
            },
            scalars=(_scalar(self.expr, names, types, y.dtype),),
            array=True,
        )

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes)


def _scalar(expr: Call, names: tuple[str, ...], types: list[DType], y: DType) -> Scalar:
    """*y = expr, with one element of every operand loaded first."""
    loads = [f"const {t.c} {k} = *(const {t.c} *)x[{i}];" for i, (k, t) in
             enumerate(zip(names, types, strict=True))]  # fmt: skip
    text = bare(expr.c(names, tuple(types)))
    narrow = y not in (DType.F32, DType.S64, DType.BOOL) and not text.startswith(f"({y.c})")
    value = f"({y.c})({text})" if narrow else text
    return Scalar(
        "f",
        (("const void *const *", "x"), ("void *", "y")),
        (*loads, f"*({y.c} *)y = {value};"),
    )


def _in_order(y: TensorType, x: TensorType) -> Trace:
    """Element by element: x is read, then y written."""
    at = np.arange(y.size)
    n, m = x.dtype.bytes, y.dtype.bytes
    return Trace(at * n, at * n + n, at * m, at * m + m)


def broadcast(*types: TensorType) -> tuple[int, ...]:
    """The shape that all broadcast to."""
    try:
        return np.broadcast_shapes(*(t.dims for t in types))
    except ValueError:
        text = " and ".join(map(str, types))
        raise Unsupported(f"{text} do not broadcast", "make the shapes agree") from None


def right_aligned(values: tuple[int, ...], rank: int, fill: int) -> tuple[int, ...]:
    return (fill,) * (rank - len(values)) + values


def collapse(
    shape: tuple[int, ...], operands: list[tuple[int, ...]]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Merge axes that every operand walks in one stride: (extents, steps of each operand)."""
    steps = [_broadcast_steps(s, len(shape)) for s in operands]
    extent: list[int] = []
    merged: list[list[int]] = [[] for _ in operands]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if extent and all(m[-1] == s[axis] * n for m, s in zip(merged, steps, strict=True)):
            extent[-1] *= n
            for m, s in zip(merged, steps, strict=True):
                m[-1] = s[axis]
        else:
            extent.append(n)
            for m, s in zip(merged, steps, strict=True):
                m.append(s[axis])
    return tuple(extent), [tuple(m) for m in merged]


def _broadcast_steps(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(0 if n == 1 else step)
        step *= n
    return (0,) * (rank - len(shape)) + tuple(reversed(steps))


def apply(b: Builder, row: str, *args: Value | float) -> Value:
    """One row of the table on tensors and numbers, after PyTorch's promotion of their types."""
    return compute(b, row, promoted(*args), *args)


def compute(b: Builder, row: str, dtype: DType, *args: Value | float) -> Value:
    """As `apply`, with arguments converted to `dtype`, or to float32 where the row needs it."""
    if not TABLE[row].whole or dtype not in COMPUTED:
        dtype = DType.F32 if TABLE[row].c else dtype
    if dtype not in COMPUTED:
        raise Unsupported(
            f"{row} of {dtype.value} tensors is not supported",
            "convert to float32 first: x.float()",
        )
    first = TABLE[row].of
    same = [cast(b, a, dtype) if isinstance(a, Value) else a for a in args[first:]]
    return _node(b, row, *args[:first], *same)


def cast(b: Builder, x: Value, dtype: DType) -> Value:
    """x with elements of another type."""
    if x.type.dtype is dtype:
        return x
    if DType.F64 in (dtype, x.type.dtype):
        raise Unsupported("float64 is not supported", "compute in float32: x.float()")
    return _node(b, dtype.value, x)


def _node(b: Builder, row: str, *args: Value | float) -> Value:
    values = list(dict.fromkeys(a for a in args if isinstance(a, Value)))
    call = Call(row, tuple(values.index(a) if isinstance(a, Value) else float(a) for a in args))
    shape = broadcast(*(v.type for v in values))
    if len(collapse(shape, [v.type.dims for v in values])[0]) > Pointwise.MAX_RANK:
        values = [b.aten("aten.expand.default", v, shape) for v in values]
    return b.node(Pointwise(call), *values)


def row_lowering(row: str) -> Lowering:
    """The lowering of a call that is just this row of its arguments."""

    def lower(b: Builder, *args: Value | float) -> Value:
        return apply(b, row, *args)

    return lower
