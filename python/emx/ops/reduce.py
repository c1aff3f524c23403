# SPDX-License-Identifier: Apache-2.0
"""The reduction table: y = finish(combine(... combine(init, x0) ..., x(n-1)), n) over any axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Scalar
from emx.pointwise import right_aligned
from emx.sample import B, I, Sample, X
from emx.view import merged


@dataclass(frozen=True)
class Way:
    """How an accumulator acc takes in element v, which is number i, in C statements, and the
    result of n elements as a C expression. `init` is acc->f at the start, or acc->i of integers."""

    init: float
    combine: tuple[str, ...]
    finish: str


@dataclass(frozen=True)
class Row:
    """A reduction of floats (`real`), and of integers and bools (`whole`).

    reference  in NumPy: of (x, axis, number), where x has one axis for all that are reduced
    result     element type of the result, if it is not that of x
    """

    reference: Callable[[Array, int, float], Array]
    real: Way | None
    whole: Way | None = None
    result: DType | None = None


def _variance(x: Array, axis: int, correction: float) -> Array:
    squares = np.square(x - x.mean(axis, keepdims=True)).sum(axis)
    return np.asarray(squares / max(x.shape[axis] - correction, 0))


def _norm(x: Array, axis: int, order: float) -> Array:
    return np.asarray(np.sum(np.abs(x) ** order, axis) ** (1 / order))


# The greatest so far and its place; NaN is greater than all, of equal ones the first counts.
def _arg(sign: str) -> tuple[str, ...]:
    return (
        f"if (v {sign} acc->f || (v != v && acc->f == acc->f)) {{",
        "    acc->f = v;",
        "    acc->i = i;",
        "}",
    )


# Welford, 1962: acc->f is the mean so far, acc->g the sum of squared deviations from it.
_WELFORD = (
    "const float d = v - acc->f;",
    "acc->f += d / (float)(i + 1);",
    "acc->g += d * (v - acc->f);",
)
_SUM = Way(0, ("acc->f += v;",), "acc->f")
_ANY = Way(0, ("acc->i |= v != 0;",), "acc->i != 0")
_ALL = Way(1, ("acc->i &= v != 0;",), "acc->i != 0")

# {0} stands for Reduce.number.
TABLE: Mapping[str, Row] = {
    "sum": Row(lambda x, a, _: x.sum(a), _SUM, Way(0, ("acc->i += v;",), "acc->i")),
    "mean": Row(lambda x, a, _: x.mean(a), Way(0, ("acc->f += v;",), "acc->f / n")),
    "prod": Row(
        lambda x, a, _: x.prod(a),
        Way(1, ("acc->f *= v;",), "acc->f"),
        Way(1, ("acc->i *= v;",), "acc->i"),
    ),
    "amax": Row(
        lambda x, a, _: x.max(a),
        Way(-inf, ("acc->f = emx_max_f32(v, acc->f);",), "acc->f"),
        Way(-(2**63), ("acc->i = v > acc->i ? v : acc->i;",), "acc->i"),
    ),
    "amin": Row(
        lambda x, a, _: x.min(a),
        Way(inf, ("acc->f = emx_min_f32(v, acc->f);",), "acc->f"),
        Way(2**63 - 1, ("acc->i = v < acc->i ? v : acc->i;",), "acc->i"),
    ),
    "argmax": Row(
        lambda x, a, _: x.argmax(a), Way(-inf, _arg(">"), "acc->i"), result=DType.S64
    ),
    "argmin": Row(lambda x, a, _: x.argmin(a), Way(inf, _arg("<"), "acc->i"), result=DType.S64),
    "any": Row(lambda x, a, _: np.any(x, a), _ANY, _ANY, DType.BOOL),
    "all": Row(lambda x, a, _: np.all(x, a), _ALL, _ALL, DType.BOOL),
    "var": Row(_variance, Way(0, _WELFORD, "acc->g / emx_max_f32(n - {0}, 0.0f)")),
    "std": Row(
        lambda x, a, c: np.sqrt(_variance(x, a, c)),
        Way(0, _WELFORD, "sqrtf(acc->g / emx_max_f32(n - {0}, 0.0f))"),
    ),
    "norm": Row(
        _norm,
        Way(0, ("acc->f += powf(fabsf(v), {0});",), "powf(acc->f, 1.0f / {0})"),
    ),
    "norm1": Row(lambda x, a, _: np.abs(x).sum(a), Way(0, ("acc->f += fabsf(v);",), "acc->f")),
    "norm2": Row(
        lambda x, a, _: np.sqrt(np.square(x).sum(a)),
        Way(0, ("acc->f += v * v;",), "sqrtf(acc->f)"),
    ),
    "count": Row(lambda x, a, _: (x != 0).sum(a), Way(0, ("acc->f += v != 0.0f;",), "acc->f")),
}  # fmt: skip

MAX_RANK = 4


@dataclass(frozen=True)
class Reduce(Op):
    """Reduce `axes` (ascending, not negative) of x; they stay with extent 1 if `keepdim`.
    `number` is what the row's {0} stands for."""

    name: ClassVar[str] = "reduce"
    row: str
    axes: tuple[int, ...]
    keepdim: bool = False
    number: float = 0.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        dims = [1 if i in self.axes else n for i, n in enumerate(x.dims)]
        if not self.keepdim:
            dims = [n for i, n in enumerate(dims) if i not in self.axes]
        return TensorType(tuple(dims), TABLE[self.row].result or x.dtype)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        kept = [i for i in range(x.ndim) if i not in self.axes]
        flat = x.transpose(*kept, *self.axes).reshape(*(x.shape[i] for i in kept), -1)
        y = TABLE[self.row].reference(flat, len(kept), self.number)
        return np.expand_dims(y, self.axes) if self.keepdim else np.asarray(y)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, y = node.inputs[0].type, node.output.type
        keep, keep_step = merged(x.dims, [i for i in range(x.rank) if i not in self.axes])
        over, over_step = merged(x.dims, self.axes)
        if max(len(keep), len(over)) > MAX_RANK:
            raise Unsupported(
                f"a reduction over scattered axes of {x} is not supported",
                "permute the reduced axes next to each other",
            )
        real = x.dtype is DType.F32
        way = TABLE[self.row].real if real else TABLE[self.row].whole
        assert way, f"{self.row} of {x}"
        return Kernel(
            header="reduce",
            function="emx_reduce",
            inputs={"x": 0},
            params={
                "size": y.dtype.bytes,
                "keep": right_aligned(keep, MAX_RANK, 1),
                "keep_step": _bytes(keep_step, x),
                "over": right_aligned(over, MAX_RANK, 1),
                "over_step": _bytes(over_step, x),
                "real": float(way.init) if real else 0.0, "whole": 0 if real else int(way.init),
            },
            key=("size", "over_step", "real", "whole"),
            scalars=_scalars(way, self.number, x.dtype, y.dtype),
        )  # fmt: skip


def _bytes(steps: tuple[int, ...], x: TensorType) -> tuple[int, ...]:
    return right_aligned(tuple(s * x.dtype.bytes for s in steps), MAX_RANK, 0)


def _scalars(way: Way, number: float, x: DType, y: DType) -> tuple[Scalar, Scalar]:
    text = f"{np.float32(number)!s}f"
    combine, finish = ([s.replace("{0}", text) for s in ss] for ss in (way.combine, [way.finish]))
    value = finish[0] if y in (DType.F32, DType.S64, DType.BOOL) else f"({y.c}){finish[0]}"
    return (
        Scalar(
            "combine",
            (("emx_acc_t *", "acc"), ("const void *", "x"), ("int32_t", "i")),
            (f"const {x.c} v = *(const {x.c} *)x;", *combine),
        ),
        Scalar(
            "finish",
            (("const emx_acc_t *", "acc"), ("float", "n"), ("void *", "y")),
            (f"*({y.c} *)y = {value};",),
        ),
    )


def reduce(
    b: Builder,
    row: str,
    x: Value,
    dim: int | Sequence[int] | None,
    keepdim: bool = False,
    number: float = 0.0,
) -> Value:
    """One row of the table; integers become float32 first where it has no way for them."""
    dims = range(x.type.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = sorted({axis_of(d, x.type.rank) for d in dims})
    if x.type.dtype is not DType.F32 and not TABLE[row].whole:
        x = b.aten("aten._to_copy.default", x, dtype=DType.F32)
    return b.node(Reduce(row, tuple(a for a in axes if a < x.type.rank), keepdim, number), x)


def _statistic(row: str) -> Lowering:
    """aten.mean.dim(x, dim, keepdim, *, dtype) and its like; no dim, or none of them, means all."""

    def lower(
        b: Builder,
        x: Value,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        dtype: DType | None = None,
    ) -> Value:
        sums = row in ("sum", "prod") and x.type.dtype is not DType.F32
        dtype = dtype or (DType.S64 if sums else x.type.dtype)
        x = b.aten("aten._to_copy.default", x, dtype=dtype)
        return reduce(b, row, x, None if dim == () else dim, keepdim)

    return lower


def _with_index(row: str, arg: str) -> Lowering:
    """aten.max.dim gives the greatest and their places."""

    def lower(b: Builder, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        return reduce(b, row, x, dim, keepdim), reduce(b, arg, x, dim, keepdim)

    return lower


def _plain(row: str) -> Lowering:
    def lower(
        b: Builder, x: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
    ) -> Value:
        return reduce(b, row, x, dim, keepdim)

    return lower


def _deviation(row: str) -> Lowering:
    """aten.var.correction(x, dim, *, correction, keepdim)."""

    def lower(
        b: Builder,
        x: Value,
        dim: Sequence[int] | None = None,
        correction: float | None = None,
        keepdim: bool = False,
    ) -> Value:
        return reduce(b, row, x, dim or None, keepdim, 1.0 if correction is None else correction)

    return lower


def _deviation_unbiased(row: str) -> Lowering:
    """aten.var.dim(x, dim, unbiased, keepdim)."""

    def lower(
        b: Builder,
        x: Value,
        dim: Sequence[int] | None,
        unbiased: bool = True,
        keepdim: bool = False,
    ) -> Value:
        return reduce(b, row, x, dim or None, keepdim, float(unbiased))

    return lower


def lower_var_mean(
    b: Builder,
    x: Value,
    dim: Sequence[int] | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Value, Value]:
    number = 1.0 if correction is None else correction
    return (
        reduce(b, "var", x, dim or None, keepdim, number),
        reduce(b, "mean", x, dim or None, keepdim),
    )


def lower_norm(
    b: Builder,
    x: Value,
    order: float | None = 2,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Value:
    """(sum |x|^p)^(1/p), with its limits at p of 0 and infinity."""
    dim = None if dim == () else dim
    p = 2.0 if order is None else float(order)
    if abs(p) == inf:
        size = b.aten("aten.abs.default", x)
        return reduce(b, "amax" if p > 0 else "amin", size, dim, keepdim)
    row = {0.0: "count", 1.0: "norm1", 2.0: "norm2"}.get(p, "norm")
    return reduce(b, row, x, dim, keepdim, p)


ATEN: dict[str, Lowering] = {
    "aten.mean.dim": _statistic("mean"),
    "aten.mean.default": _statistic("mean"),
    "aten.sum.dim_IntList": _statistic("sum"),
    "aten.sum.default": _statistic("sum"),
    "aten.prod.dim_int": _statistic("prod"),
    "aten.prod.default": _statistic("prod"),
    "aten.amax.default": _plain("amax"),
    "aten.amin.default": _plain("amin"),
    "aten.max.default": _plain("amax"),
    "aten.min.default": _plain("amin"),
    "aten.max.dim": _with_index("amax", "argmax"),
    "aten.min.dim": _with_index("amin", "argmin"),
    "aten.argmax.default": _plain("argmax"),
    "aten.argmin.default": _plain("argmin"),
    "aten.any.default": _plain("any"),
    "aten.any.dim": _plain("any"),
    "aten.any.dims": _plain("any"),
    "aten.all.default": _plain("all"),
    "aten.all.dim": _plain("all"),
    "aten.var.correction": _deviation("var"),
    "aten.std.correction": _deviation("std"),
    "aten.var.dim": _deviation_unbiased("var"),
    "aten.var_mean.correction": lower_var_mean,
    "aten.linalg_vector_norm.default": lower_norm,
    "aten.norm.ScalarOpt_dim": lower_norm,
    "aten.norm.Scalar": lower_norm,
}

SAMPLES = (
    Sample("aten.mean.dim", X(1, 1), [0, 1]),
    Sample("aten.mean.dim", X(2, 3, 4, 5), [2, 3], True),
    Sample("aten.mean.dim", X(2, 3, 4, 5), [1, -1]),
    Sample("aten.mean.dim", X(3, 4), None),
    Sample("aten.mean.default", X(2, 3)),
    Sample("aten.mean.default", X()),
    Sample("aten.sum.default", X(2, 3)),
    Sample("aten.sum.default", B(2, 3)),
    Sample("aten.sum.default", X(0, 3)),
    Sample("aten.sum.dim_IntList", X(0, 3), [0]),
    Sample("aten.sum.dim_IntList", X(2, 3, 4), [0]),
    Sample("aten.sum.dim_IntList", X(2, 3, 4), [0, 2], True),
    Sample("aten.sum.dim_IntList", I(2, 3, 4, dtype=DType.S32), [-1]),
    Sample("aten.prod.default", X(5)),
    Sample("aten.prod.dim_int", X(3, 5), -1),
    Sample("aten.prod.dim_int", I(3, 5), 0, True),
    Sample("aten.amax.default", X(5, 6, special=True), [1]),
    Sample("aten.amax.default", I(5, 6), [-1]),
    Sample("aten.amin.default", X(5, 6, special=True), [0], True),
    Sample("aten.amin.default", I(5, 6, dtype=DType.S32), [0]),
    Sample("aten.max.default", X(5, 6)),
    Sample("aten.min.default", I(5, 6)),
    Sample("aten.max.dim", X(5, 6, special=True), 1, outputs=2),
    Sample("aten.min.dim", X(5, 6, special=True), -2, True, outputs=2),
    Sample("aten.argmax.default", X(5, 6)),
    Sample("aten.argmax.default", X(5, 6, special=True), 0),
    Sample("aten.argmax.default", I(9, low=0, high=3), -1),
    Sample("aten.argmin.default", X(5, 6), -1, True),
    Sample("aten.any.default", B(3, 4)),
    Sample("aten.any.dim", X(3, 4, special=True), -1),
    Sample("aten.any.dims", B(3, 4, 2), [0, 2]),
    Sample("aten.all.default", I(3, 4)),
    Sample("aten.all.dim", B(3, 2), 1, True),
    Sample("aten.var.correction", X(3, 8), [1]),
    Sample("aten.var.correction", X(3, 8), None, correction=0, keepdim=True),
    Sample("aten.std.correction", X(3, 8), [0], correction=1),
    Sample("aten.var.dim", X(3, 8), [-1], False),
    Sample("aten.var_mean.correction", X(3, 8), [1], correction=0, keepdim=True, outputs=2),
    *(
        Sample("aten.linalg_vector_norm.default", X(3, 8), p, [1], True)
        for p in (0, 1, 2, 3, float("inf"), float("-inf"))
    ),
    Sample("aten.linalg_vector_norm.default", X(3, 8)),
    Sample("aten.norm.ScalarOpt_dim", X(3, 8), None, [1]),
    Sample("aten.norm.Scalar", X(3, 8), 2),
)
