# SPDX-License-Identifier: Apache-2.0
"""Sums, means, greatest and least elements of int8 over any axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel
from emx.pointwise import right_aligned
from emx.quant import Multiplier, Quant, requantise_even
from emx.sample import Q, Sample
from emx.view import merged

MAX_RANK = 4
MAX_COUNT = 1 << 23  # elements whose sum certainly fits 32 bits


@dataclass(frozen=True)
class ReduceS8(Op):
    """`row` (sum, mean, amax or amin) over `axes` (ascending, not negative) of x; they stay with
    extent 1 if `keepdim`. y = requantise_even(sum (x - x.zero)), or of the one element."""

    name: ClassVar[str] = "reduce_s8"
    row: str
    axes: tuple[int, ...]
    keepdim: bool
    x: Quant
    y: Quant

    def infer(self, *types: TensorType) -> TensorType:
        dims = [1 if i in self.axes else n for i, n in enumerate(types[0].dims)]
        if not self.keepdim:
            dims = [n for i, n in enumerate(dims) if i not in self.axes]
        return TensorType(tuple(dims), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        how = {"amax": np.max, "amin": np.min}.get(self.row, np.sum)
        acc = how(x.astype(np.int64) - self.x.zero, axis=self.axes, keepdims=self.keepdim)
        m = self._multiplier(prod(x.shape[i] for i in self.axes))
        return requantise_even(acc, m.m, m.shift, self.y, self.y.lo, self.y.hi)

    def _multiplier(self, count: int) -> Multiplier:
        return Multiplier.of(self.x.scale / self.y.scale / (count if self.row == "mean" else 1))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x = node.inputs[0].type
        count = prod(x.dims[i] for i in self.axes)
        keep, keep_step = merged(x.dims, [i for i in range(x.rank) if i not in self.axes])
        over, over_step = merged(x.dims, self.axes)
        if max(len(keep), len(over)) > MAX_RANK:
            raise Unsupported(
                f"a reduction over scattered axes of {x} is not supported",
                "permute the reduced axes next to each other",
            )
        if not 0 < count <= MAX_COUNT:
            raise Unsupported(f"a reduction of {count} int8 elements is not supported", "split it")
        m = self._multiplier(count)
        name = {"amax": "max", "amin": "min"}.get(self.row, "sum")
        return Kernel(
            header="reduce_s8",
            function=f"emx_reduce_{name}_s8",
            inputs={"x": 0},
            params={
                "keep": right_aligned(keep, MAX_RANK, 1),
                "keep_step": right_aligned(keep_step, MAX_RANK, 0),
                "over": right_aligned(over, MAX_RANK, 1),
                "over_step": right_aligned(over_step, MAX_RANK, 0),
                "x_zero": self.x.zero * (count if name == "sum" else 1),
                "m": m.m, "shift": m.shift,
                "zero": self.y.zero, "lo": self.y.lo, "hi": self.y.hi,
            },
            key=("over_step",),
            types={"x": "int8_t", "y": "int8_t"},
        )  # fmt: skip


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.mean.dim", Q(1, 1), [0, 1], y=(0.05, 0)),
    Sample("aten.mean.dim", Q(2, 3, 4, 5, zero=-9), [1, -1], True, y=(0.017, 3)),
    Sample("aten.sum.dim_IntList", Q(3, 4, 20), [0, 2], y=(0.9, -5)),
    Sample("aten.amax.default", Q(5, 6), [1], y=(0.03, 60)),
    Sample("aten.amin.default", Q(5, 6), [0], True, y=(0.07, 6)),
)
