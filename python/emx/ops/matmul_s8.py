# SPDX-License-Identifier: Apache-2.0
"""y[m][n] = scaled(sum_k (a[m][k] - a.zero) * (b[k][n] - b.zero)), matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, DType, Node, TensorType, Unsupported
from emx.kernel import Kernel, Wishes
from emx.packing_s8 import BLOCK, STAGED, padded_depth
from emx.quant import Quant, fits_left, multipliers, scaled, shifts
from emx.sample import Q, Sample
from emx.target import Target
from emx.view import Strided, View, batch_loops

MAX_DEPTH = 1 << 15  # products whose sum, and all that it is made of, certainly fits 32 bits
PACKED = 1024  # bytes of columns that are packed at once, where they may be so many


@dataclass(frozen=True, kw_only=True)
class MatMulS8(Strided):
    """Inputs a s8 [...][m][k] and b s8 [...][k][n]; what stands before broadcasts."""

    name: ClassVar[str] = "matmul_s8"
    a: Quant
    b: Quant
    y: Quant

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.placed(self._result(*types))[0], DType.S8)

    def _views(self, types: tuple[TensorType, ...]) -> tuple[View, View]:
        a, b = types
        return self.viewed(0, a), self.viewed(1, b)

    def _result(self, *types: TensorType) -> tuple[int, ...]:
        a, b = (v.dims for v in self._views(types))
        if a[-1] != b[-2]:
            raise Unsupported(f"matrices of {a} and {b} have no product", "make the shapes agree")
        return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])

    def reference(self, *arrays: Array) -> Array:
        a, b = (v.astype(np.float64) for v in self.read(arrays))  # exact below 2^53
        acc = ((a - self.a.zero) @ (b - self.b.zero)).astype(np.int64)
        nothing = np.zeros(1, np.int32)
        y = scaled(acc, self._multiplier(), nothing, self.y, self.y.lo, self.y.hi)
        return self.written(y)

    def _multiplier(self) -> Array:
        return multipliers(np.array([self.a.scale * self.b.scale / self.y.scale]))

    def macs(self, node: Node) -> int:
        a, _ = self._views(tuple(v.type for v in node.inputs))
        return node.output.type.size * a.dims[-1]

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        return self.kernels_for(node, constants, target, Wishes())[0]

    def kernels_for(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Sequence[Kernel]:
        """As many columns packed at once as pay, or four."""
        types = tuple(v.type for v in node.inputs)
        columns, depth = self._result(*types)[-1], padded_depth(types[0].dims[-1], target)
        whole = -(-columns // BLOCK) * BLOCK
        most = max(BLOCK, min(whole, PACKED // max(depth, 1) // BLOCK * BLOCK))
        return [self._kernel(types, depth, n, target) for n in dict.fromkeys((most, BLOCK))]

    def _kernel(
        self, types: tuple[TensorType, ...], depth: int, columns: int, target: Target
    ) -> Kernel:
        """The kernel that packs `columns` columns of b at once."""
        (a, b), dims = self._views(types), self._result(*types)
        _, y = self.placed(dims)
        batch, a_batch, b_batch, y_batch = batch_loops(dims[:-2], (a, b, y))
        inner = a.dims[-1]
        if inner > MAX_DEPTH:
            raise Unsupported(f"sums of {inner} products may overflow 32 bits", "split the product")
        m = self._multiplier()
        rows, runs = dims[-2], -(-dims[-1] // columns)
        staged = 4 if STAGED[target.dot] == 4 else 0
        return Kernel(
            header="matmul_s8",
            function="emx_matmul_s8",
            inputs={"a": 0, "b": 1},
            params={
                "batch": batch, "a_batch": a_batch, "b_batch": b_batch, "y_batch": y_batch,
                "m": rows, "n": dims[-1], "k": inner, "depth": depth, "columns": columns,
                "a_start": a.start, "a_row": a.steps[-2], "a_col": a.steps[-1],
                "b_start": b.start, "b_row": b.steps[-2], "b_col": b.steps[-1],
                "y_row": y.steps[-2], "y_col": y.steps[-1],
                "a_zero": self.a.zero, "b_zero": self.b.zero,
                "wide": int(not fits_left(shifts(m), 255 * 255 * inner)), "mul": int(m[0]),
                "zero": self.y.zero, "lo": self.y.lo, "hi": self.y.hi,
            },
            key=("wide", "a_col", "b_col", "y_col"),
            scratch_bytes=(columns + 2 + staged) * depth + 12 * columns,
            types=dict.fromkeys(("a", "b", "y"), "int8_t"),
            variant=f"columns={columns}",
            cost=int(np.prod(dims[:-2])) * (rows * inner * (dims[-1] * 2 + runs * 4)),
        )  # fmt: skip


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.matmul.default", Q(1, 1), Q(1, 1), y=(0.1, 0)),
    Sample("aten.matmul.default", Q(2, 1, 5, 4, zero=8), Q(3, 4, 6, zero=-30), y=(0.17, 9)),
    Sample("aten.bmm.default", Q(3, 6, 35, zero=-128), Q(3, 35, 9), y=(0.53, 2)),
)
