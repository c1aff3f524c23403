# SPDX-License-Identifier: Apache-2.0
"""Sums, differences and products of two int8 tensors that broadcast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.add_s8 import AddS8
from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Param, Rows, Trace, Wishes
from emx.pointwise import broadcast, collapse, right_aligned
from emx.quant import MAX_SHIFT, Multiplier, Quant, requantise
from emx.rows import same_rows
from emx.sample import Q, Sample
from emx.target import Target

MAX_RANK = 4
MOST = (
    512.0  # with a factor this large each product but 0 saturates, and so it does with any larger
)
SIGNS = {"add": 1, "sub": -1}


@dataclass(frozen=True)
class BinaryS8(Op):
    """y = a + b or a - b as emx.add_s8 says, or requantise((a - a.zero) * (b - b.zero))."""

    name: ClassVar[str] = "binary_s8"
    kind: str  # "add", "sub" or "mul"
    a: Quant
    b: Quant
    y: Quant
    lo: int = -128
    hi: int = 127

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(broadcast(*types), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        if self.kind != "mul":
            return self._sum.reference(*arrays)
        a, b = (v.astype(np.int64) for v in arrays)
        m = self._factor
        acc = (a - self.a.zero) * (b - self.b.zero)
        return requantise(acc, m.m, m.shift, self.y, self.lo, self.hi)

    @property
    def _sum(self) -> AddS8:
        return AddS8(self.a, self.b, self.y, self.lo, self.hi, SIGNS[self.kind])

    @property
    def _factor(self) -> Multiplier:
        return Multiplier.of(min(self.a.scale * self.b.scale / self.y.scale, MOST))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        y = node.output.type
        extent, steps = collapse(y.dims, [v.type.dims for v in node.inputs])
        if len(extent) > MAX_RANK:
            raise Unsupported(
                f"{self.kind} of {' and '.join(str(v.type) for v in node.inputs)} is not supported",
                "expand one of them first",
            )
        same = [k for k, v in zip("ab", node.inputs, strict=True) if v.type.dims == y.dims]
        return Kernel(
            header="binary_s8",
            function=f"emx_binary_{'mul' if self.kind == 'mul' else 'add'}_s8",
            inputs={"a": 0, "b": 1},
            params={
                "extent": right_aligned(extent, MAX_RANK, 1),
                "a_step": right_aligned(steps[0], MAX_RANK, 0),
                "b_step": right_aligned(steps[1], MAX_RANK, 0),
                **self._rule(),
            },
            key=("a_step", "b_step", "wide"),
            overlap={k: _in_order(y.size) for k in same},
            types=dict.fromkeys("aby", "int8_t"),
            cost=10 * y.size,
        )

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes)

    def _rule(self) -> dict[str, Param]:
        if self.kind != "mul":
            return {"wide": 0, "rule": self._sum.params()}
        m, to = self._factor, (self.y.zero, self.lo, self.hi)
        wide = MAX_SHIFT - m.shift > 14  # a product has 16 bits, and its sign
        k = m.shift if wide else MAX_SHIFT - m.shift
        return {"wide": int(wide), "rule": (self.a.zero, self.b.zero, m.m, k, *to)}


def _in_order(size: int) -> Trace:
    """Element by element: an operand of y's shape is read, then y written."""
    at = np.arange(size)
    return Trace(at, at + 1, at, at + 1)


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.add.Tensor", Q(2, 3, 4), Q(3, 1, scale=0.02, zero=9), y=(0.06, -5)),
    Sample("aten.sub.Tensor", Q(7), Q(7, zero=-4), y=(0.1, 0)),
    Sample("aten.mul.Tensor", Q(3, 5, zero=1), Q(3, 5, scale=0.3), y=(0.5, 3)),
)
