# SPDX-License-Identifier: Apache-2.0
"""y[m][n] = sum_k a[m][k] * b[k][n] of two computed matrices, for every matrix of a batch.

A constant b makes it a linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, TensorType, Unsupported, Value
from emx.kernel import Kernel
from emx.sample import P, Sample, X
from emx.view import Strided, View, batch_loops


@dataclass(frozen=True)
class MatMul(Strided):
    """Inputs a [...][m][k] and b [...][k][n]; what stands before broadcasts."""

    name: ClassVar[str] = "matmul"

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.placed(self._result(*types))[0])

    def _views(self, types: tuple[TensorType, ...]) -> tuple[View, View]:
        a, b = types
        return self.viewed(0, a), self.viewed(1, b)

    def _result(self, *types: TensorType) -> tuple[int, ...]:
        a, b = (v.dims for v in self._views(types))
        try:
            batch = np.broadcast_shapes(a[:-2], b[:-2])
        except ValueError:
            batch = (-1,)
        if a[-1] != b[-2] or -1 in batch:
            text = " and ".join("x".join(map(str, d)) for d in (a, b))
            raise Unsupported(f"matrices of {text} have no product", "make the shapes agree")
        return (*batch, a[-2], b[-1])

    def reference(self, *arrays: Array) -> Array:
        a, b = self.read(arrays)
        return self.written(np.asarray(a @ b))

    def macs(self, node: Node) -> int:
        a, _ = self._views(tuple(v.type for v in node.inputs))
        return node.output.type.size * a.dims[-1]

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        types = tuple(v.type for v in node.inputs)
        a, b = self._views(types)
        dims = self._result(*types)
        _, y = self.placed(dims)
        batch, a_batch, b_batch, y_batch = batch_loops(dims[:-2], (a, b, y))
        return Kernel(
            header="matmul",
            function="emx_matmul_f32",
            inputs={"a": 0, "b": 1},
            params={
                "batch": batch, "a_batch": a_batch, "b_batch": b_batch, "y_batch": y_batch,
                "m": dims[-2], "n": dims[-1], "k": a.dims[-1],
                "a_start": a.start, "a_row": a.steps[-2], "a_col": a.steps[-1],
                "b_start": b.start, "b_row": b.steps[-2], "b_col": b.steps[-1],
                "y_row": y.steps[-2], "y_col": y.steps[-1],
            },
            key=("a_col", "b_col", "y_col"),
            scratch_bytes=16 * max(a.dims[-1], 1),
        )  # fmt: skip


def lower_matmul(b: Builder, x: Value, y: Value) -> Value:
    """Vectors count as one row, or one column, which the result has not."""
    require_f32(x, y)
    if y.type.rank == 2 and y.name in b.constants and x.type.rank > 0:
        return b.aten("aten.linear.default", x, _transposed(b, y))
    left = x if x.type.rank > 1 else b.aten("aten.unsqueeze.default", x, 0)
    right = y if y.type.rank > 1 else b.aten("aten.unsqueeze.default", y, 1)
    product = b.node(MatMul(), left, right)
    dims = list(product.type.dims)
    if y.type.rank == 1:
        del dims[-1]
    if x.type.rank == 1:
        del dims[-2 if y.type.rank > 1 else -1]
    same = len(dims) == product.type.rank
    return product if same else b.aten("aten.reshape.default", product, dims)


def _transposed(b: Builder, weight: Value) -> Value:
    data = b.data(weight, "the weight of a linear layer")
    return b.constant(data.T, "weight")


def _scaled(b: Builder, x: Value, factor: float) -> Value:
    return x if factor == 1 else b.aten("aten.mul.Scalar", x, factor)


def lower_addmm(
    b: Builder, c: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1
) -> Value:
    """beta * c + alpha * (x @ y); c is ignored, NaN too, if beta is 0."""
    constant = y.name in b.constants and c.name in b.constants
    if constant and (beta, alpha) == (1, 1) and c.type.dims == y.type.dims[1:]:
        return b.aten("aten.linear.default", x, _transposed(b, y), c)
    product = _scaled(b, lower_matmul(b, x, y), alpha)
    if beta == 0:
        return product
    return b.aten("aten.add.Tensor", _scaled(b, c, beta), product)


def lower_addbmm(
    b: Builder, c: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1
) -> Value:
    """As addmm, of the sum of all products: of the matrices side by side."""
    batch, m, k = x.type.dims
    columns = b.aten("aten.permute.default", x, (1, 0, 2))
    left = b.aten("aten.reshape.default", columns, (m, batch * k))
    right = b.aten("aten.reshape.default", y, (batch * k, y.type.dims[2]))
    return lower_addmm(b, c, left, right, beta=beta, alpha=alpha)


ATEN: dict[str, Lowering] = {
    **dict.fromkeys(
        (
            "aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default",
            "aten.dot.default",
        ),
        lower_matmul,
    ),
    **dict.fromkeys(
        ("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default"), lower_addmm
    ),
    "aten.addbmm.default": lower_addbmm,
}  # fmt: skip

SAMPLES = (
    Sample("aten.matmul.default", X(1, 1), X(1, 1)),
    Sample("aten.matmul.default", X(7), X(7)),
    Sample("aten.matmul.default", X(3, 7), X(7)),
    Sample("aten.matmul.default", X(7), X(2, 7, 3)),
    Sample("aten.matmul.default", X(0, 7), X(7, 3)),
    Sample("aten.matmul.default", X(3, 0), X(0, 5)),
    Sample("aten.matmul.default", X(2, 1, 5, 4), X(3, 4, 6)),
    Sample("aten.matmul.default", X(2, 3, 9, 5), X(2, 3, 5, 10)),
    Sample("aten.matmul.default", X(3, 2, 1, 2, 3), X(3, 1, 2, 3, 2)),
    Sample("aten.matmul.default", X(2, 3, 5), P(5, 6)),
    Sample("aten.matmul.default", P(3, 5), X(5, 6)),
    Sample("aten.mm.default", X(6, 5), X(5, 4)),
    Sample("aten.bmm.default", X(3, 6, 5), X(3, 5, 9)),
    Sample("aten.mv.default", X(6, 5), X(5)),
    Sample("aten.dot.default", X(5), X(5)),
    Sample("aten.addmm.default", P(5), X(3, 4), P(4, 5)),
    Sample("aten.addmm.default", X(5), X(3, 4), X(4, 5)),
    Sample("aten.baddbmm.default", X(3, 1), X(2, 3, 4), X(2, 4, 5)),
    Sample("aten.addmv.default", X(3), X(3, 4), X(4)),
    Sample("aten.addbmm.default", X(3, 5), X(2, 3, 4), X(2, 4, 5)),
)
