# SPDX-License-Identifier: Apache-2.0
"""Comparisons, truth values, choices and conversions of type, as rows of the pointwise table."""

from __future__ import annotations

from math import inf

import numpy as np

from emx.builder import Builder, Lowering, promoted
from emx.ir import DType, Value
from emx.pointwise import apply, cast, compute, row_lowering
from emx.sample import B, I, Sample, X
from emx.scalars import TABLE


def lower_cast(b: Builder, x: Value, dtype: DType | None = None) -> Value:
    return cast(b, x, dtype or x.type.dtype)


def lower_to(b: Builder, x: Value, dtype: DType, *where: object) -> Value:
    return cast(b, x, dtype)


def lower_type_as(b: Builder, x: Value, other: Value) -> Value:
    return cast(b, x, other.type.dtype)


def lower_where(b: Builder, condition: Value, x: Value | float, y: Value | float) -> Value:
    """Numbers become tensors, so that one of the two has a type."""
    dtype = promoted(x, y)
    if not isinstance(x, Value) and not isinstance(y, Value):
        x = b.constant(np.array(x, dtype.numpy), "x")
    return compute(b, "where", dtype, cast(b, condition, DType.BOOL), x, y)


def lower_masked_fill(b: Builder, x: Value, mask: Value, value: Value | float) -> Value:
    return lower_where(
        b, mask, cast(b, value, x.type.dtype) if isinstance(value, Value) else value, x
    )


def _logical(row: str) -> Lowering:
    def lower(b: Builder, x: Value, y: Value) -> Value:
        return compute(b, row, DType.BOOL, cast(b, x, DType.BOOL), cast(b, y, DType.BOOL))

    return lower


def lower_not(b: Builder, x: Value) -> Value:
    return apply(b, "logical_not" if x.type.dtype is DType.BOOL else "not", x)


def lower_hardshrink(b: Builder, x: Value, bound: float = 0.5) -> Value:
    inside = apply(b, "le", apply(b, "abs", x), bound)
    return lower_where(b, inside, 0.0, x)


def lower_nan_to_num(
    b: Builder,
    x: Value,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Value:
    largest = float(np.finfo(np.float32).max)
    bounded = apply(
        b, "clamp", x, -largest if neginf is None else -inf, largest if posinf is None else inf
    )
    y = lower_where(b, apply(b, "isnan", x), nan or 0.0, bounded)
    for bound, number in ((inf, posinf), (-inf, neginf)):
        if number is not None:
            y = lower_where(b, apply(b, "eq", x, bound), number, y)
    return y


ATEN: dict[str, Lowering] = {
    **{
        aten: row_lowering(name)
        for name, row in TABLE.items()
        for aten in row.aten
        if not row.c or row.result
    },
    "aten._to_copy.default": lower_cast,
    "aten.to.dtype": lower_to,
    "aten.type_as.default": lower_type_as,
    "aten.where.self": lower_where,
    "aten.where.ScalarOther": lower_where,
    "aten.where.ScalarSelf": lower_where,
    "aten.where.Scalar": lower_where,
    "aten.masked_fill.Scalar": lower_masked_fill,
    "aten.masked_fill.Tensor": lower_masked_fill,
    "aten.logical_and.default": _logical("and"),
    "aten.logical_or.default": _logical("or"),
    "aten.logical_xor.default": _logical("xor"),
    "aten.bitwise_not.default": lower_not,
    "aten.hardshrink.default": lower_hardshrink,
    "aten.nan_to_num.default": lower_nan_to_num,
}

SAMPLES = (
    *(
        Sample(f"aten.{row}.default", X(20, low=-3.0, high=3.0, special=True))
        for row in ("isnan", "isinf", "logical_not")
    ),
    *(
        Sample(f"aten.{row}.Tensor", X(3, 4, special=True), X(3, 4, special=True))
        for row in ("eq", "ne", "lt", "le", "gt", "ge")
    ),
    *(
        Sample(f"aten.{row}.Scalar", I(3, 4, low=-3, high=3), 1)
        for row in ("eq", "ne", "lt", "le", "gt", "ge")
    ),
    Sample("aten.lt.Tensor", X(3, 1), I(4, low=-2, high=2)),
    *(
        Sample(f"aten.bitwise_{row}.Tensor", a(7), a(7))
        for row in ("and", "or", "xor")
        for a in (I, B)
    ),
    *(Sample(f"aten.bitwise_{row}.Scalar", I(7), 5) for row in ("and", "or", "xor")),
    *(Sample(f"aten.logical_{row}.default", X(7), B(7)) for row in ("and", "or", "xor")),
    Sample("aten.bitwise_not.default", I(7)),
    Sample("aten.bitwise_not.default", B(7)),
    Sample("aten.where.self", B(3, 1), X(1, 4), X(3, 4)),
    Sample("aten.where.self", B(3), I(3), X(3)),
    Sample("aten.where.ScalarOther", B(7), X(7), -1e9),
    Sample("aten.where.ScalarSelf", B(7), 0.0, X(7)),
    Sample("aten.where.Scalar", B(7), 1.0, 0.0),
    Sample("aten.masked_fill.Scalar", X(3, 4), B(4), float("-inf")),
    Sample("aten.masked_fill.Tensor", X(3, 4), B(3, 1), X()),
    *(
        Sample("aten._to_copy.default", x, dtype=dtype)
        for x in (X(7, low=-9.0, high=9.0), I(7), B(7))
        for dtype in (DType.F32, DType.S32, DType.S64, DType.BOOL, DType.S8)
    ),
    Sample("aten.to.dtype", X(7), DType.S64),
    Sample("aten.type_as.default", I(7), X(7)),
    Sample("aten.hardshrink.default", X(20, low=-1.0, special=True)),
    Sample("aten.nan_to_num.default", X(20, special=True)),
    Sample("aten.nan_to_num.default", X(20, special=True), 1.0, 2.0, 3.0),
)
