# SPDX-License-Identifier: Apache-2.0
"""Samples: ATen calls from which the tests of an operator follow (reference, host, boards)."""

from __future__ import annotations

from dataclasses import dataclass

from emx.ir import DType
from emx.quant import Quant


@dataclass(frozen=True)
class T:
    """A tensor argument: random values of this shape, in [low, high); `const` makes it a
    parameter. `special`: NaN, infinities and zeros of both signs are among them.

    `quant`: the call gets it dequantised; the input is any integer from quant.lo to quant.hi, the
    parameter what `axis` says: quantised for each of its indices, or as a whole if it is None."""

    shape: tuple[int, ...]
    const: bool = False
    low: float = -1.0
    high: float = 1.0
    dtype: DType = DType.F32
    special: bool = False
    quant: Quant | None = None
    axis: int | None = None


@dataclass(frozen=True)
class Sample:
    """One call: `target(*args, **kwargs)`, e.g. Sample("aten.relu.default", X(3, 4)), and how
    many of its outputs are compared. `y`: (scale, zero) to which its output is quantised."""

    target: str
    args: tuple[object, ...]
    kwargs: tuple[tuple[str, object], ...]
    outputs: int
    y: Quant | None

    def __init__(
        self,
        target: str,
        *args: object,
        outputs: int = 1,
        y: tuple[float, int] | None = None,
        **kwargs: object,
    ) -> None:
        object.__setattr__(self, "outputs", outputs)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", tuple(kwargs.items()))
        object.__setattr__(self, "y", Quant(*y) if y else None)


def P(*shape: int, low: float = -1.0, high: float = 1.0, dtype: DType = DType.F32) -> T:
    """A parameter of the sampled call."""
    return T(shape, True, low, high, dtype)


def X(*shape: int, low: float = -1.0, high: float = 1.0, special: bool = False) -> T:
    """An input of the sampled call."""
    return T(shape, False, low, high, special=special)


def Q(*shape: int, scale: float = 0.05, zero: int = 0) -> T:
    """An int8 input, which the call gets dequantised."""
    return T(shape, quant=Quant(scale, zero))


def W(*shape: int, axis: int | None = 0, hi: int = 127) -> T:
    """An int8 parameter from -hi to hi with a scale for each index of `axis`, which the call gets
    dequantised."""
    return T(shape, True, quant=Quant(1 / hi, lo=-hi, hi=hi), axis=axis)


def I(*shape: int, low: int = -9, high: int = 9, dtype: DType = DType.S64) -> T:  # noqa: E743
    """An input of whole numbers."""
    return T(shape, False, low, high, dtype)


def B(*shape: int) -> T:
    """An input of truth values."""
    return T(shape, False, 0, 2, DType.BOOL)
