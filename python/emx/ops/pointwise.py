# SPDX-License-Identifier: Apache-2.0
"""Arithmetic and activations: rows of the pointwise table, and what is made of a few of them."""

from __future__ import annotations

from math import inf

from emx.builder import Builder, Lowering, promoted
from emx.ir import DType, Unsupported, Value
from emx.pointwise import apply, compute, row_lowering
from emx.sample import B, I, P, Sample, X
from emx.scalars import TABLE


def _sum_lowering(row: str) -> Lowering:
    def lower(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
        if alpha == 1:
            return _sum(b, row, x, y)
        scaled = (
            compute(b, "mul", promoted(x, y, alpha), y, alpha)
            if isinstance(y, Value)
            else y * alpha
        )
        return _sum(b, row, x, scaled)

    return lower


def _sum(b: Builder, row: str, x: Value | float, y: Value | float) -> Value:
    """Sums of bool are unions, as in PyTorch."""
    return apply(b, "or" if promoted(x, y) is DType.BOOL else row, x, y)


def lower_rsub(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
    return apply(b, "sub", y, x if alpha == 1 else apply(b, "mul", x, alpha))


def lower_mul(b: Builder, x: Value, y: Value | float) -> Value:
    return apply(b, "and" if promoted(x, y) is DType.BOOL else "mul", x, y)


def lower_div_mode(
    b: Builder, x: Value, y: Value | float, rounding_mode: str | None = None
) -> Value:
    rows = {None: "div", "floor": "floor_divide", "trunc": "trunc_divide"}
    return apply(b, rows[rounding_mode], x, y)


def lower_clamp_tensor(
    b: Builder, x: Value, lo: Value | None = None, hi: Value | None = None
) -> Value:
    x = x if lo is None else apply(b, "maximum", x, lo)
    return x if hi is None else apply(b, "minimum", x, hi)


def lower_clamp_max(b: Builder, x: Value, hi: float) -> Value:
    return lower_clamp(b, x, None, hi)


def lower_softshrink(b: Builder, x: Value, bound: float = 0.5) -> Value:
    return apply(b, "sub", x, apply(b, "clamp", x, -bound, bound))


def lower_glu(b: Builder, x: Value, dim: int = -1) -> Value:
    half = x.type.dims[dim] // 2
    first, second = (b.aten("aten.slice.Tensor", x, dim, i * half, (i + 1) * half) for i in (0, 1))
    return apply(b, "mul", first, apply(b, "sigmoid", second))


def lower_relu(b: Builder, x: Value) -> Value:
    return compute(b, "clamp", x.type.dtype, x, 0.0, inf)


def lower_clamp(b: Builder, x: Value, lo: float | None = None, hi: float | None = None) -> Value:
    if lo != lo or hi != hi:
        raise Unsupported("clamp with a bound of NaN is not supported", "give it a number")
    dtype = promoted(x, lo, hi)
    return compute(b, "clamp", dtype, x, -inf if lo is None else lo, inf if hi is None else hi)


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
    **{
        aten: row_lowering(name)
        for name, row in TABLE.items()
        for aten in row.aten
        if row.c and not row.result
    },
    "aten.add.Tensor": _sum_lowering("add"),
    "aten.add.Scalar": _sum_lowering("add"),
    "aten.sub.Tensor": _sum_lowering("sub"),
    "aten.sub.Scalar": _sum_lowering("sub"),
    "aten.rsub.Scalar": lower_rsub,
    "aten.rsub.Tensor": lower_rsub,
    "aten.mul.Tensor": lower_mul,
    "aten.mul.Scalar": lower_mul,
    "aten.div.Tensor_mode": lower_div_mode,
    "aten.div.Scalar_mode": lower_div_mode,
    "aten.clamp.Tensor": lower_clamp_tensor,
    "aten.clamp_min.Tensor": lower_clamp_tensor,
    "aten.clamp_min.default": lower_clamp,
    "aten.clamp_max.default": lower_clamp_max,
    "aten.softshrink.default": lower_softshrink,
    "aten.glu.default": lower_glu,
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
    *(
        Sample(f"aten.{row}.default", X(20, low=-3.0, high=3.0, special=True))
        for row in (
            "tan",
            "atan",
            "sinh",
            "cosh",
            "asinh",
            "exp2",
            "expm1",
            "erfc",
            "trunc",
            "round",
            "sign",
            "relu",
            "abs",
            "neg",
            "floor",
            "ceil",
            "exp",
            "sigmoid",
            "tanh",
            "hardswish",
            "silu",
            "mish",
            "sqrt",
        )
    ),
    *(
        Sample(f"aten.{row}.default", X(20, low=0.01, high=0.99))
        for row in ("asin", "acos", "atanh", "log2", "log10", "log1p")
    ),
    Sample("aten.acosh.default", X(20, low=1.0, high=9.0)),
    Sample("aten.maximum.default", X(9, special=True), X(9)),
    Sample("aten.maximum.default", I(9), I(9)),
    Sample("aten.minimum.default", I(9), I(9)),
    Sample("aten.add.Tensor", I(3, 1), I(1, 4)),
    *(
        Sample(f"aten.{row}.Tensor", I(9, low=-(2**63), high=2**63 - 1), I(9, low=-(2**63)))
        for row in ("add", "sub", "mul")
    ),
    Sample("aten.mul.Tensor", *2 * [I(9, low=-(2**31), high=2**31 - 1, dtype=DType.S32)]),
    Sample("aten.add.Tensor", I(3), X(3)),
    Sample("aten.add.Tensor", I(3), I(3), alpha=2),
    Sample("aten.add.Tensor", X(3), X(3), alpha=0.5),
    Sample("aten.add.Tensor", I(3), 1.5),
    Sample("aten.add.Tensor", B(5), B(5)),
    Sample("aten.add.Tensor", X(0, 3), X(0, 1)),
    Sample("aten.add.Tensor", X(2, 1, 3, 1, 2, 1), X(1, 2, 1, 2, 1, 2)),
    Sample("aten.mul.Tensor", B(5), X(5)),
    Sample("aten.mul.Tensor", B(5), B(5)),
    Sample("aten.sub.Tensor", I(4), I(4)),
    Sample("aten.rsub.Scalar", X(3), 1.0, 2.0),
    Sample("aten.rsub.Tensor", X(3), X(3)),
    Sample("aten.neg.default", I(4)),
    Sample("aten.abs.default", I(4)),
    Sample("aten.square.default", I(4)),
    Sample("aten.sign.default", I(4)),
    Sample("aten.sin.default", I(4)),
    Sample("aten.clamp.default", I(9), -2, 3),
    Sample("aten.clamp.default", I(9), -2),
    Sample("aten.clamp.Tensor", X(9), X(9), X(9)),
    Sample("aten.clamp_min.default", X(9), 0.25),
    Sample("aten.clamp_min.Tensor", X(9), X(9)),
    Sample("aten.clamp_max.default", X(9), 0.25),
    Sample("aten.div.Tensor", I(6), I(6, low=1, high=9)),
    *(
        Sample("aten.div.Tensor_mode", x, y, rounding_mode=mode)
        for mode in ("floor", "trunc")
        for x, y in ((I(9), I(9, low=1, high=4)), (X(9), X(9, low=0.1, high=0.5)))
    ),
    Sample("aten.div.Scalar_mode", I(9), -2, rounding_mode="floor"),
    Sample("aten.floor_divide.default", X(9), X(9, low=-0.5, high=-0.1)),
    Sample("aten.floor_divide.Scalar", I(9), 3),
    Sample("aten.remainder.Scalar", X(9), -0.3),
    Sample("aten.remainder.Tensor", I(9), I(9, low=1, high=5)),
    Sample("aten.remainder.Scalar", I(9), -3),
    Sample("aten.fmod.Scalar", X(9), -0.3),
    Sample("aten.fmod.Tensor", I(9), I(9, low=1, high=5)),
    Sample("aten.atan2.default", X(9), X(9)),
    Sample("aten.pow.Scalar", 2.0, X(9)),
    Sample("aten.softshrink.default", X(20, low=-1.0), 0.25),
    Sample("aten.glu.default", X(3, 8)),
    Sample("aten.glu.default", X(4, 3), 0),
)
