# SPDX-License-Identifier: Apache-2.0
"""y[i] = f(a[i], b[i], ...) with NumPy's broadcasting, f made of the table in emx/scalars.py.

A chain of rows is an expression, so fused operators are one loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Scalar, Trace
from emx.sample import P, Sample, X
from emx.scalars import TABLE, Call


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


def lower_celu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    return apply(b, "elu", x, alpha, 1.0, 1.0 / alpha)


def lower_selu(b: Builder, x: Value) -> Value:
    """Klambauer et al., 2017; the constants are those of the paper."""
    return apply(b, "elu", x, 1.6732632423543772, 1.0507009873554805, 1.0)


def lower_prelu(b: Builder, x: Value, weight: Value) -> Value:
    """One slope, or one for each of axis 1: max(x, 0) + weight * min(x, 0)."""
    if weight.type.size > 1:
        shape = (weight.type.size, *(1,) * (x.type.rank - 2))
        weight = b.aten("aten.reshape.default", weight, shape)
    negative = apply(b, "clamp", x, -inf, 0.0)
    return apply(b, "add", apply(b, "clamp", x, 0.0, inf), apply(b, "mul", weight, negative))


def lower_rrelu(
    b: Builder,
    x: Value,
    lower: float,
    upper: float,
    training: bool = False,
    generator: object = None,
) -> Value:
    if training:
        raise Unsupported("rrelu in training mode is random", "call model.eval() before the export")
    return apply(b, "leaky_relu", x, (lower + upper) / 2)


def lower_pow(b: Builder, x: Value, exponent: float) -> Value:
    if exponent == 1:
        return x
    rows = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    row = rows.get(float(exponent))
    return apply(b, row, x) if row else apply(b, "pow", x, exponent)


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
    "aten.celu.default": lower_celu,
    "aten.selu.default": lower_selu,
    "aten.prelu.default": lower_prelu,
    "aten.rrelu.default": lower_rrelu,
    "aten.pow.Tensor_Scalar": lower_pow,
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
    Sample("aten.pow.Tensor_Tensor", X(9, low=0.1, high=3.0), X(9)),
    Sample("aten.pow.Tensor_Scalar", X(9), 2),
    Sample("aten.pow.Tensor_Scalar", X(9, low=0.1, high=3.0), -0.5),
    Sample("aten.pow.Tensor_Scalar", X(9), 3),
    Sample("aten.maximum.default", X(3, 5), X(3, 5)),
    Sample("aten.minimum.default", X(3, 5), X(5)),
    Sample("aten.abs.default", X(9)),
    Sample("aten.square.default", X(9)),
    Sample("aten.reciprocal.default", X(9, low=0.5, high=2.0)),
    Sample("aten.sqrt.default", X(9, low=0.0, high=9.0)),
    Sample("aten.rsqrt.default", X(9, low=0.1, high=9.0)),
    Sample("aten.floor.default", X(20, low=-5.0, high=5.0)),
    Sample("aten.ceil.default", X(20, low=-5.0, high=5.0)),
    Sample("aten.sin.default", X(20, low=-9.0, high=9.0)),
    Sample("aten.cos.default", X(20, low=-9.0, high=9.0)),
    Sample("aten.erf.default", X(20, low=-4.0, high=4.0)),
    Sample("aten.log.default", X(20, low=0.001, high=50.0)),
    Sample("aten.log_sigmoid.default", X(20, low=-99.0, high=99.0)),
    Sample("aten.hardsigmoid.default", X(20, low=-5.0, high=5.0)),
    Sample("aten.hardswish.default", X(20, low=-5.0, high=5.0)),
    Sample("aten.mish.default", X(20, low=-30.0, high=30.0)),
    Sample("aten.softplus.default", X(20, low=-30.0, high=30.0), 2.0, 5.0),
    Sample("aten.elu.default", X(20, low=-9.0, high=9.0), 0.5, 1.5, 0.75),
    Sample("aten.celu.default", X(20, low=-9.0, high=9.0), 2.0),
    Sample("aten.selu.default", X(20, low=-9.0, high=9.0)),
    Sample("aten.prelu.default", X(2, 3, 4), P(3)),
    Sample("aten.prelu.default", X(7), P(1)),
    Sample("aten.rrelu.default", X(9), 0.125, 0.25, False),
    Sample("aten.threshold.default", X(9), 0.1, 20.0),
)
