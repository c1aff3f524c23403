# SPDX-License-Identifier: Apache-2.0
"""Calls that make constants: full, arange and the like, where they come after the export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emx.builder import Builder, Lowering
from emx.ir import DType, Value
from emx.sample import I, Sample, X


def lower_full(b: Builder, shape: Sequence[int], value: float, dtype: DType | None = None) -> Value:
    dtype = dtype or (DType.F32 if isinstance(value, float) else DType.S64)
    return b.constant(np.full(tuple(shape), value, dtype.numpy), "full")


def _filled(value: float | None) -> Lowering:
    """full(shape, value), or of the given value."""

    def lower(
        b: Builder, shape: Sequence[int], fill: float | None = value, dtype: DType | None = None
    ) -> Value:
        return lower_full(b, shape, 0.0 if fill is None else fill, dtype or DType.F32)

    return lower


def _like(value: float | None) -> Lowering:
    """full_like(x, value): of the type of x."""

    def lower(
        b: Builder, x: Value, fill: float | None = value, dtype: DType | None = None
    ) -> Value:
        return lower_full(b, x.type.dims, 0.0 if fill is None else fill, dtype or x.type.dtype)

    return lower


def _new(value: float | None) -> Lowering:
    """x.new_full(shape, value): of the type of x."""

    def lower(
        b: Builder,
        x: Value,
        shape: Sequence[int],
        fill: float | None = value,
        dtype: DType | None = None,
    ) -> Value:
        return lower_full(b, shape, 0.0 if fill is None else fill, dtype or x.type.dtype)

    return lower


def lower_scalar_tensor(b: Builder, value: float, dtype: DType | None = None) -> Value:
    return lower_full(b, (), value, dtype or DType.F32)


def lower_arange(
    b: Builder, start: float, end: float, step: float = 1, dtype: DType | None = None
) -> Value:
    whole = all(isinstance(v, int) for v in (start, end, step))
    dtype = dtype or (DType.S64 if whole else DType.F32)
    return b.constant(np.arange(start, end, step).astype(dtype.numpy), "range")


def lower_arange_end(b: Builder, end: float, dtype: DType | None = None) -> Value:
    return lower_arange(b, 0, end, 1, dtype)


def lower_eye(b: Builder, n: int, m: int | None = None, dtype: DType | None = None) -> Value:
    return b.constant(np.eye(n, m, dtype=(dtype or DType.F32).numpy), "eye")


def _triangle(lower_part: bool) -> Lowering:
    """The part of the last two axes on and below a diagonal, or on and above; the rest is 0."""

    def lower(b: Builder, x: Value, diagonal: int = 0) -> Value:
        rows, cols = x.type.dims[-2:]
        make = np.tril if lower_part else np.triu
        mask = b.constant(make(np.ones((rows, cols), np.bool_), diagonal), "mask")
        return b.aten("aten.where.ScalarOther", mask, x, 0)

    return lower


ATEN: dict[str, Lowering] = {
    "aten.full.default": lower_full,
    "aten.zeros.default": _filled(0),
    "aten.ones.default": _filled(1),
    "aten.full_like.default": _like(None),
    "aten.zeros_like.default": _like(0),
    "aten.ones_like.default": _like(1),
    "aten.fill.Scalar": _like(None),
    "aten.new_full.default": _new(None),
    "aten.new_zeros.default": _new(0),
    "aten.new_ones.default": _new(1),
    "aten.scalar_tensor.default": lower_scalar_tensor,
    "aten.arange.default": lower_arange_end,
    "aten.arange.start": lower_arange,
    "aten.arange.start_step": lower_arange,
    "aten.eye.default": lower_eye,
    "aten.eye.m": lower_eye,
    "aten.tril.default": _triangle(True),
    "aten.triu.default": _triangle(False),
}

SAMPLES = (
    Sample("aten.full.default", [2, 3], 1.5),
    Sample("aten.zeros.default", [2, 3]),
    Sample("aten.ones.default", [], dtype=DType.S64),
    Sample("aten.full_like.default", X(2, 3), 2),
    Sample("aten.zeros_like.default", I(2, 3)),
    Sample("aten.ones_like.default", X(), dtype=DType.BOOL),
    Sample("aten.fill.Scalar", X(3), 0.5),
    Sample("aten.new_full.default", I(3), [2], 7),
    Sample("aten.new_zeros.default", X(3), [2]),
    Sample("aten.new_ones.default", X(3), [2, 0, 1]),
    Sample("aten.scalar_tensor.default", 2.5),
    Sample("aten.arange.default", 7),
    Sample("aten.arange.start", 2, 7),
    Sample("aten.arange.start_step", 2.0, 3.0, 0.25),
    Sample("aten.eye.default", 3),
    Sample("aten.eye.m", 2, 3),
    Sample("aten.tril.default", X(2, 3, 4)),
    Sample("aten.triu.default", I(3, 3), 1),
)
