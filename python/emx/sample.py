# SPDX-License-Identifier: Apache-2.0
"""Samples: ATen calls from which the tests of an operator follow (reference, host, boards)."""

from __future__ import annotations

from dataclasses import dataclass

from emx.ir import DType


@dataclass(frozen=True)
class T:
    """A tensor argument: random values of this shape; `const` makes it a parameter."""

    shape: tuple[int, ...]
    const: bool = False
    low: float = -1.0
    high: float = 1.0
    dtype: DType = DType.F32


@dataclass(frozen=True)
class Sample:
    """One call: `target(*args)`, e.g. Sample("aten.relu.default", T((3, 4)))."""

    target: str
    args: tuple[object, ...]

    def __init__(self, target: str, *args: object) -> None:
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "args", args)


def P(*shape: int, low: float = -1.0, high: float = 1.0) -> T:
    """A parameter of the sampled call."""
    return T(shape, True, low, high)


def X(*shape: int, low: float = -1.0, high: float = 1.0) -> T:
    """An input of the sampled call."""
    return T(shape, False, low, high)
