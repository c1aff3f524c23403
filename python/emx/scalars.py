# SPDX-License-Identifier: Apache-2.0
"""The pointwise table: one row for each scalar function, and expressions made of rows.

Functions that C has not are in runtime/include/emx/scalar.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, erfc, isinf

import numpy as np

from emx.ir import Array, DType
from emx.quant import quantise


@dataclass(frozen=True)
class Row:
    """A scalar function of arguments {0}, {1}, ... of one type.

    reference  in NumPy
    c          C expression of float arguments; "" if the function has none
    aten       the ATen names that are just this function of their tensor and number arguments
    whole      C expression of integer and bool arguments, "" if they become float32 before
    result     element type of the result, if it is not that of the arguments
    of         the argument that has the type of all; `where` has a condition before it
    """

    reference: Callable[..., Array]
    c: str
    aten: tuple[str, ...] = ()
    whole: str = ""
    result: DType | None = None
    of: int = 0


_erf = np.vectorize(erf, otypes=[np.float64])
_erfc = np.vectorize(erfc, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + _erf(x / np.sqrt(2))))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def _elu(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    return np.where(x > 0, x * scale, np.expm1(np.minimum(x, 0) * input_scale) * alpha * scale)


def _softplus(x: Array, beta: float, threshold: float) -> Array:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def _rsqrt(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


def _threshold(x: Array, threshold: float, value: float) -> Array:
    return np.where(x <= threshold, value, x)


def _sign(x: Array) -> Array:
    return np.where(x > 0, 1, 0) - np.where(x < 0, 1, 0)


def _unary(reference: Callable[..., Array], c: str, aten: str, whole: str = "") -> Row:
    return Row(reference, c, (f"aten.{aten}.default",), whole)


def _math(name: str, reference: Callable[..., Array]) -> Row:
    """A function of one argument that libm has under PyTorch's name."""
    return Row(reference, f"{name}f({{0}})", (f"aten.{name}.default",))


def _compare(reference: Callable[..., Array], sign: str, name: str) -> Row:
    c = f"({{0}} {sign} {{1}})"
    return Row(reference, c, (f"aten.{name}.Tensor", f"aten.{name}.Scalar"), c, DType.BOOL)


def _bits(reference: Callable[..., Array], sign: str, name: str) -> Row:
    aten = (f"aten.bitwise_{name}.Tensor", f"aten.bitwise_{name}.Scalar")
    return Row(reference, "", aten, f"({{0}} {sign} {{1}})")


def _cast(dtype: DType, c: str) -> Row:
    """To `dtype`; `c` says it of a float."""
    wide = np.dtype(np.float64) if dtype is DType.F32 else dtype.numpy
    whole = "({0} != 0)" if dtype is DType.BOOL else f"({dtype.c}){{0}}"
    return Row(lambda x: np.asarray(x).astype(wide), c, (), whole, dtype)


def _quantise(dtype: DType) -> Row:
    """To `dtype`, in float32 like PyTorch: of x, 1 / scale, zero, lo and hi."""
    return Row(
        lambda x, inverse, zero, lo, hi: quantise(x, inverse, zero, lo, hi, dtype),
        "emx_quantize_f32({0}, {1}, {2}, {3}, {4})",
        result=dtype,
    )


TABLE: Mapping[str, Row] = {
    "add": Row(np.add, "({0} + {1})", whole="emx_add_s64({0}, {1})"),
    "sub": Row(np.subtract, "({0} - {1})", whole="emx_sub_s64({0}, {1})"),
    "mul": Row(np.multiply, "({0} * {1})", (), "emx_mul_s64({0}, {1})"),
    "div": Row(np.divide, "({0} / {1})", ("aten.div.Tensor", "aten.div.Scalar")),
    "pow": Row(np.power, "powf({0}, {1})", ("aten.pow.Tensor_Tensor", "aten.pow.Scalar")),
    "maximum": _unary(np.maximum, "emx_max_f32({0}, {1})", "maximum", "emx_max_s64({0}, {1})"),
    "minimum": _unary(np.minimum, "emx_min_f32({0}, {1})", "minimum", "emx_min_s64({0}, {1})"),
    "neg": _unary(np.negative, "(-{0})", "neg", "(-{0})"),
    "abs": _unary(np.abs, "fabsf({0})", "abs", "emx_abs_s64({0})"),
    "square": _unary(np.square, "emx_square_f32({0})", "square", "emx_square_s64({0})"),
    "reciprocal": _unary(np.reciprocal, "(1.0f / {0})", "reciprocal"),
    "sqrt": _unary(np.sqrt, "sqrtf({0})", "sqrt"),
    "rsqrt": _unary(_rsqrt, "(1.0f / sqrtf({0}))", "rsqrt"),
    "floor": _unary(np.floor, "floorf({0})", "floor"),
    "ceil": _unary(np.ceil, "ceilf({0})", "ceil"),
    "sin": _unary(np.sin, "sinf({0})", "sin"),
    "cos": _unary(np.cos, "cosf({0})", "cos"),
    "erf": _unary(_erf, "erff({0})", "erf"),
    "exp": _unary(np.exp, "emx_exp_f32({0})", "exp"),
    "log": _unary(np.log, "logf({0})", "log"),
    "clamp": Row(np.clip, "emx_clamp_f32({0}, {1}, {2})", whole="emx_clamp_s64({0}, {1}, {2})"),
    "tanh": _unary(np.tanh, "emx_tanh_f32({0})", "tanh"),
    "sigmoid": _unary(_sigmoid, "emx_sigmoid_f32({0})", "sigmoid"),
    "log_sigmoid": _unary(
        lambda x: -np.logaddexp(0, -x), "emx_log_sigmoid_f32({0})", "log_sigmoid"
    ),
    "hardsigmoid": _unary(
        lambda x: np.clip(x + 3, 0, 6) / 6, "emx_hardsigmoid_f32({0})", "hardsigmoid"
    ),
    "silu": _unary(lambda x: x * _sigmoid(x), "emx_silu_f32({0})", "silu"),
    "hardswish": _unary(
        lambda x: x * np.clip(x + 3, 0, 6) / 6, "emx_hardswish_f32({0})", "hardswish"
    ),
    "mish": _unary(lambda x: x * np.tanh(np.logaddexp(0, x)), "emx_mish_f32({0})", "mish"),
    "gelu": Row(_gelu, "emx_gelu_f32({0})"),
    "gelu_tanh": Row(_gelu_tanh, "emx_gelu_tanh_f32({0})"),
    "softplus": _unary(_softplus, "emx_softplus_f32({0}, {1}, {2})", "softplus"),
    "elu": _unary(_elu, "emx_elu_f32({0}, {1}, {2}, {3})", "elu"),
    "leaky_relu": _unary(
        lambda x, s: np.where(x > 0, x, x * s), "emx_leaky_relu_f32({0}, {1})", "leaky_relu"
    ),
    "threshold": _unary(_threshold, "emx_threshold_f32({0}, {1}, {2})", "threshold"),
    "tan": _math("tan", np.tan),
    "asin": _math("asin", np.arcsin),
    "acos": _math("acos", np.arccos),
    "atan": _math("atan", np.arctan),
    "sinh": _math("sinh", np.sinh),
    "cosh": _math("cosh", np.cosh),
    "asinh": _math("asinh", np.arcsinh),
    "acosh": _math("acosh", np.arccosh),
    "atanh": _math("atanh", np.arctanh),
    "exp2": _math("exp2", np.exp2),
    "expm1": _math("expm1", np.expm1),
    "log2": _math("log2", np.log2),
    "log10": _math("log10", np.log10),
    "log1p": _math("log1p", np.log1p),
    "erfc": _math("erfc", _erfc),
    "trunc": _math("trunc", np.trunc),
    "round": _unary(np.rint, "rintf({0})", "round"),
    "sign": _unary(_sign, "emx_sign_f32({0})", "sign", "(({0} > 0) - ({0} < 0))"),
    "atan2": _unary(np.arctan2, "atan2f({0}, {1})", "atan2"),
    "fmod": Row(
        np.fmod, "fmodf({0}, {1})", ("aten.fmod.Tensor", "aten.fmod.Scalar"),
        "emx_fmod_s64({0}, {1})",
    ),
    "remainder": Row(
        np.remainder, "emx_remainder_f32({0}, {1})",
        ("aten.remainder.Tensor", "aten.remainder.Scalar"), "emx_remainder_s64({0}, {1})",
    ),
    "floor_divide": Row(
        np.floor_divide, "emx_floor_divide_f32({0}, {1})",
        ("aten.floor_divide.default", "aten.floor_divide.Scalar"),
        "emx_floor_divide_s64({0}, {1})",
    ),
    "trunc_divide": Row(
        lambda x, y: np.trunc(np.divide(x, y)), "truncf({0} / {1})",
        whole="emx_trunc_divide_s64({0}, {1})",
    ),
    "eq": _compare(np.equal, "==", "eq"),
    "ne": _compare(np.not_equal, "!=", "ne"),
    "lt": _compare(np.less, "<", "lt"),
    "le": _compare(np.less_equal, "<=", "le"),
    "gt": _compare(np.greater, ">", "gt"),
    "ge": _compare(np.greater_equal, ">=", "ge"),
    "isnan": Row(np.isnan, "({0} != {0})", ("aten.isnan.default",), result=DType.BOOL),
    "isinf": Row(np.isinf, "(fabsf({0}) == INFINITY)", ("aten.isinf.default",), result=DType.BOOL),
    "and": _bits(np.bitwise_and, "&", "and"),
    "or": _bits(np.bitwise_or, "|", "or"),
    "xor": _bits(np.bitwise_xor, "^", "xor"),
    "not": Row(np.bitwise_not, "", whole="(~{0})"),
    "logical_not": Row(
        np.logical_not, "({0} == 0.0f)", ("aten.logical_not.default",), "(!{0})", DType.BOOL
    ),
    "where": Row(np.where, "({0} ? {1} : {2})", whole="({0} ? {1} : {2})", of=1),
    "f32": _cast(DType.F32, "{0}"),
    "s64": _cast(DType.S64, "emx_to_s64({0})"),
    "s32": _cast(DType.S32, "emx_to_s32({0})"),
    "u8": _cast(DType.U8, "(uint8_t)emx_to_s32({0})"),
    "s8": _cast(DType.S8, "(int8_t)emx_to_s32({0})"),
    "s16": _cast(DType.S16, "(int16_t)emx_to_s32({0})"),
    "bool": _cast(DType.BOOL, "({0} != 0.0f)"),
    **{f"quantize_{t.value}": _quantise(t) for t in (DType.S8, DType.U8, DType.S16)},
}  # fmt: skip


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

    def type(self, types: tuple[DType, ...]) -> DType:
        """Element type of the result, given those of the operands."""
        return TABLE[self.row].result or self._argument_type(types)

    def c(self, names: tuple[str, ...], types: tuple[DType, ...]) -> str:
        """The expression in C, of operands with these names and types."""
        dtype = self._argument_type(types)
        row = TABLE[self.row]
        args = [_c_argument(a, names, types, dtype) for a in self.args]
        return (row.c if dtype is DType.F32 else row.whole).format(*args)

    def _argument_type(self, types: tuple[DType, ...]) -> DType:
        for a in self.args[TABLE[self.row].of :]:
            if isinstance(a, Call):
                return a.type(types)
            if isinstance(a, int):
                return types[a]
        raise AssertionError(f"{self} has numbers alone")

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
    if isinstance(a, int):
        return arrays[a]
    whole = not any(x.dtype == np.float64 for x in arrays) and a == a and not isinf(a)
    return int(a) if whole and a == int(a) else a


def _c_argument(
    a: Call | int | float, names: tuple[str, ...], types: tuple[DType, ...], dtype: DType
) -> str:
    if isinstance(a, Call):
        return a.c(names, types)
    if isinstance(a, int):
        return names[a]
    return c_float(a) if dtype is DType.F32 else c_int(a)


def c_int(v: float) -> str:
    """A C literal of a whole number; infinite bounds are the least and the greatest."""
    if v <= -(2**63):
        return "INT64_MIN"
    if v >= 2**63 - 1:
        return "INT64_MAX"
    return str(int(v)) if abs(v) < 2**31 else f"INT64_C({int(v)})"


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


def bare(expression: str) -> str:
    """The expression without parentheses around all of it or around all that others enclose."""
    opened: list[int] = []
    pairs: dict[int, int] = {}
    for i, c in enumerate(expression):
        if c == "(":
            opened.append(i)
        elif c == ")":
            pairs[opened.pop()] = i
    whole = len(expression) - 1
    idle = {i: j for i, j in pairs.items() if (i, j) == (0, whole) or pairs.get(i - 1) == j + 1}
    dropped = {*idle.keys(), *idle.values()}
    return "".join(c for i, c in enumerate(expression) if i not in dropped)
