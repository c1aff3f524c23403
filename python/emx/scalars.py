# SPDX-License-Identifier: Apache-2.0
"""The pointwise table: one row for each scalar function, and expressions made of rows.

Functions that C has not are in runtime/include/emx/scalar.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf

import numpy as np

from emx.kernel import Array


@dataclass(frozen=True)
class Row:
    """A scalar function: `reference` in NumPy, `c` a C expression of its arguments {0}, {1}, ...

    `aten` lists the ATen names that are just this function of their tensor and number arguments.
    """

    reference: Callable[..., Array]
    c: str
    aten: tuple[str, ...] = ()


_erf = np.vectorize(erf, otypes=[np.float64])


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


def _unary(reference: Callable[..., Array], c: str, aten: str) -> Row:
    return Row(reference, c, (f"aten.{aten}.default",))


TABLE: Mapping[str, Row] = {
    "add": Row(np.add, "({0} + {1})"),
    "sub": Row(np.subtract, "({0} - {1})"),
    "mul": Row(np.multiply, "({0} * {1})", ("aten.mul.Tensor", "aten.mul.Scalar")),
    "div": Row(np.divide, "({0} / {1})", ("aten.div.Tensor", "aten.div.Scalar")),
    "pow": Row(np.power, "powf({0}, {1})", ("aten.pow.Tensor_Tensor",)),
    "maximum": _unary(np.maximum, "emx_max_f32({0}, {1})", "maximum"),
    "minimum": _unary(np.minimum, "emx_min_f32({0}, {1})", "minimum"),
    "neg": _unary(np.negative, "(-{0})", "neg"),
    "abs": _unary(np.abs, "fabsf({0})", "abs"),
    "square": _unary(np.square, "emx_square_f32({0})", "square"),
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
    "clamp": Row(np.clip, "emx_clamp_f32({0}, {1}, {2})"),
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
