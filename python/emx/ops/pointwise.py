# SPDX-License-Identifier: Apache-2.0
"""The pointwise table: one row for each scalar function, and the operator that applies chains.

y[i] = f(a[i], b[i], ...) with NumPy's broadcasting. A chain of rows is an expression, so fused
operators are one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, inf, prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Scalar, Trace
from emx.sample import Sample, X


@dataclass(frozen=True)
class Row:
    """A scalar function: `reference` in NumPy, `c` a C expression of its arguments {0}, {1}, ...

    `aten` maps the ATen names that are just this function of their tensor and number arguments.
    """

    reference: Callable[..., Array]
    c: str
    aten: tuple[str, ...] = ()


_erf = np.vectorize(erf, otypes=[np.float64])

TABLE: Mapping[str, Row] = {
    "add": Row(np.add, "({0} + {1})"),
    "sub": Row(np.subtract, "({0} - {1})"),
    "mul": Row(np.multiply, "({0} * {1})", ("aten.mul.Tensor", "aten.mul.Scalar")),
    "div": Row(np.divide, "({0} / {1})", ("aten.div.Tensor", "aten.div.Scalar")),
    "neg": Row(np.negative, "(-{0})", ("aten.neg.default",)),
    "clamp": Row(np.clip, "emx_clamp_f32({0}, {1}, {2})"),
    "exp": Row(np.exp, "emx_exp_f32({0})", ("aten.exp.default",)),
    "tanh": Row(np.tanh, "tanhf({0})", ("aten.tanh.default",)),
    "sigmoid": Row(
        lambda x: 1 / (1 + np.exp(-x)), "emx_sigmoid_f32({0})", ("aten.sigmoid.default",)
    ),
    "silu": Row(lambda x: x / (1 + np.exp(-x)), "emx_silu_f32({0})", ("aten.silu.default",)),
    "gelu": Row(lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))), "emx_gelu_f32({0})"),
    "gelu_tanh": Row(
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "emx_gelu_tanh_f32({0})",
    ),
    "leaky_relu": Row(lambda x, s: np.where(x > 0, x, x * s), "emx_leaky_relu_f32({0}, {1})"),
}


@dataclass(frozen=True)
class Call:
    """A row applied to operands (int: index of an input), numbers (float) and other calls."""

    row: str
    args: tuple[Call | int | float, ...]

    def map_operands(self, change: Callable[[int], Call | int | float]) -> Call:
        """The same call with every operand replaced."""
        return Call(self.row, tuple(_mapped(a, change) for a in self.args))

    def evaluate(self, arrays: tuple[Array, ...]) -> Array:
        values = [_evaluated(a, arrays) for a in self.args]
        return np.asarray(TABLE[self.row].reference(*values))

    def c(self, names: tuple[str, ...]) -> str:
        return TABLE[self.row].c.format(*(_c_argument(a, names) for a in self.args))

    def __str__(self) -> str:
        return f"{self.row}({', '.join(f'%{a}' if type(a) is int else str(a) for a in self.args)})"


def _mapped(
    a: Call | int | float, change: Callable[[int], Call | int | float]
) -> Call | int | float:
    if isinstance(a, Call):
        return a.map_operands(change)
    return change(a) if isinstance(a, int) else a


def _evaluated(a: Call | int | float, arrays: tuple[Array, ...]) -> Array | float:
    if isinstance(a, Call):
        return a.evaluate(arrays)
    return arrays[a] if isinstance(a, int) else a


def _c_argument(a: Call | int | float, names: tuple[str, ...]) -> str:
    if isinstance(a, Call):
        return a.c(names)
    return names[a] if isinstance(a, int) else c_float(a)


def c_float(v: float) -> str:
    """A C literal that reads back to the float32 nearest to v."""
    with np.errstate(over="ignore"):
        nearest = np.float32(v)
    if nearest != nearest:
        return "NAN"
    if np.isinf(nearest):
        return "INFINITY" if nearest > 0 else "-INFINITY"
    text = str(nearest)
    return (text if any(ch in text for ch in ".e") else text + ".0") + "f"


@dataclass(frozen=True)
class Pointwise(Op):
    """`expr` of inputs that broadcast to the output's shape."""

    name: ClassVar[str] = "pointwise"
    MAX_INPUTS: ClassVar[int] = 3
    MAX_RANK: ClassVar[int] = 4
    expr: Call

    def infer(self, *types: TensorType) -> TensorType:
        try:
            shape = np.broadcast_shapes(*(t.dims for t in types))
        except ValueError:
            text = " and ".join(map(str, types))
            raise Unsupported(f"{text} do not broadcast", "make the shapes agree") from None
        return TensorType(shape, types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return np.broadcast_to(self.expr.evaluate(arrays), shape)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        shape = node.output.type.dims
        extent, steps = collapse(shape, [v.type.dims for v in node.inputs])
        if len(extent) > self.MAX_RANK:
            raise Unsupported(
                f"broadcasting over {len(extent)} axes is not supported", "expand the tensor first"
            )
        names = ("a", "b", "c")[: len(node.inputs)]
        at = np.arange(prod(shape)) * 4
        in_order = Trace(at, at + 4, at, at + 4)
        return Kernel(
            header="pointwise",
            function=f"emx_pointwise{len(names)}_f32",
            inputs={k: i for i, k in enumerate(names)},
            params={
                "extent": right_aligned(extent, self.MAX_RANK, 1),
                **{
                    f"step_{k}": right_aligned(steps[i] if i < len(steps) else (), self.MAX_RANK, 0)
                    for i, k in enumerate("abc")
                },
            },
            key=("step_a", "step_b", "step_c"),
            overlap={
                k: in_order for k, v in zip(names, node.inputs, strict=True) if v.type.dims == shape
            },
            scalars=(Scalar("f", names, self.expr.c(names)),),
        )


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
    """One row of the table on tensors and numbers; a constant operand may stay a tensor."""
    values = [a for a in args if isinstance(a, Value)]
    require_f32(*values)
    index = iter(range(len(values)))
    call = Call(row, tuple(next(index) if isinstance(a, Value) else float(a) for a in args))
    return b.node(Pointwise(call), *values)


def _row_lowering(row: str) -> Lowering:
    def lower(b: Builder, *args: Value | float) -> Value:
        return apply(b, row, *args)

    return lower


def _sum_lowering(row: str) -> Lowering:
    def lower(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
        scaled = y if alpha == 1 else y * alpha if not isinstance(y, Value) else None
        return apply(b, row, x, apply(b, "mul", y, alpha) if scaled is None else scaled)

    return lower


def lower_rsub(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
    if alpha != 1:
        raise Unsupported("rsub with a factor is not supported", "write the product out")
    return apply(b, "sub", y, x)


def lower_relu(b: Builder, x: Value) -> Value:
    return apply(b, "clamp", x, 0.0, inf)


def lower_clamp(b: Builder, x: Value, lo: float | None = None, hi: float | None = None) -> Value:
    if lo != lo or hi != hi:
        raise Unsupported("clamp with a bound of NaN is not supported", "give it a number")
    return apply(b, "clamp", x, -inf if lo is None else lo, inf if hi is None else hi)


def lower_hardtanh(b: Builder, x: Value, lo: float = -1.0, hi: float = 1.0) -> Value:
    return apply(b, "clamp", x, lo, hi)


def lower_relu6(b: Builder, x: Value) -> Value:
    return apply(b, "clamp", x, 0.0, 6.0)


def lower_gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return apply(b, "gelu_tanh" if approximate == "tanh" else "gelu", x)


def lower_leaky_relu(b: Builder, x: Value, slope: float = 0.01) -> Value:
    return apply(b, "leaky_relu", x, slope)


ATEN: dict[str, Lowering] = {
    **{aten: _row_lowering(name) for name, row in TABLE.items() for aten in row.aten},
    "aten.add.Tensor": _sum_lowering("add"),
    "aten.add.Scalar": _sum_lowering("add"),
    "aten.sub.Tensor": _sum_lowering("sub"),
    "aten.sub.Scalar": _sum_lowering("sub"),
    "aten.rsub.Scalar": lower_rsub,
    "aten.relu.default": lower_relu,
    "aten.relu6.default": lower_relu6,
    "aten.hardtanh.default": lower_hardtanh,
    "aten.clamp.default": lower_clamp,
    "aten.gelu.default": lower_gelu,
    "aten.leaky_relu.default": lower_leaky_relu,
}

SAMPLES = (
    Sample("aten.relu.default", X()),
    Sample("aten.relu.default", X(3, 4, 5)),
    Sample("aten.add.Tensor", X(2, 3, 4, 5), X(3, 1, 5)),
    Sample("aten.add.Tensor", X(5, 1), X(1, 7)),
    Sample("aten.add.Tensor", X(4), 2.5),
    Sample("aten.add.Scalar", X(4), 0.1, 2.0),
    Sample("aten.sub.Tensor", X(2, 6), X(2, 6)),
    Sample("aten.sub.Scalar", X(2, 6), 0.75),
    Sample("aten.rsub.Scalar", X(3), 1.0),
    Sample("aten.mul.Tensor", X(2, 3, 2, 3), X(1, 3, 1, 3)),
    Sample("aten.mul.Scalar", X(5), -3.0),
    Sample("aten.div.Tensor", X(7), X(7, low=0.5, high=2.0)),
    Sample("aten.div.Scalar", X(5), 3.0),
    Sample("aten.neg.default", X(6)),
    Sample("aten.exp.default", X(40, low=-110.0, high=95.0)),
    Sample("aten.tanh.default", X(30, low=-12.0, high=12.0)),
    Sample("aten.sigmoid.default", X(30, low=-95.0, high=95.0)),
    Sample("aten.silu.default", X(30, low=-30.0, high=30.0)),
    Sample("aten.gelu.default", X(30, low=-6.0, high=6.0)),
    Sample("aten.leaky_relu.default", X(9), 0.2),
    Sample("aten.clamp.default", X(9), None, 0.25),
    Sample("aten.hardtanh.default", X(9, low=-3.0, high=8.0), 0.0, 6.0),
    Sample("aten.relu6.default", X(9, low=-3.0, high=9.0)),
)
