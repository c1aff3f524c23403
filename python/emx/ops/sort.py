# SPDX-License-Identifier: Apache-2.0
"""Elements in order: sort, argsort, topk. The places are sorted, the values follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Array, DType, Node, Op, TensorType, Value
from emx.kernel import Kernel, Scalar
from emx.sample import I, Sample, X


@dataclass(frozen=True)
class Sort(Op):
    """The places along `axis` of the first `count` elements of x in order; NaN is the greatest,
    equal elements stay in their order."""

    name: ClassVar[str] = "sort"
    axis: int
    count: int
    descending: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        dims = list(types[0].dims)
        dims[self.axis] = self.count
        return TensorType(tuple(dims), DType.S64)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        # The rank of every element in ascending order, negated to descend: equal ones stay equal.
        rank = np.unique(x, return_inverse=True, equal_nan=True)[1].reshape(x.shape)
        order = np.argsort(-rank if self.descending else rank, axis=self.axis, kind="stable")
        return np.take(order, np.arange(self.count), self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x = node.inputs[0].type
        return Kernel(
            header="sort",
            function="emx_sort",
            inputs={"x": 0},
            params={
                "outer": prod(x.dims[: self.axis]),
                "extent": x.dims[self.axis],
                "inner": prod(x.dims[self.axis + 1 :]),
                "count": self.count,
                "size": x.dtype.bytes,
            },
            key=("size",),
            scalars=(_before(x.dtype, self.descending),),
        )


def _before(x: DType, descending: bool) -> Scalar:
    order = "v > w || (v != v && w == w)" if descending else "v < w || (w != w && v == v)"
    if x is not DType.F32:
        order = "v > w" if descending else "v < w"
    return Scalar(
        "before",
        (("const void *", "a"), ("const void *", "b"), ("bool *", "y")),
        (
            f"const {x.c} v = *(const {x.c} *)a;",
            f"const {x.c} w = *(const {x.c} *)b;",
            f"*y = {order};",
        ),
    )


def _sorted(
    b: Builder, x: Value, count: int | None, dim: int, descending: bool
) -> tuple[Value, Value]:
    """The values and their places."""
    if x.type.rank == 0:
        return x, b.constant(np.zeros((), np.int64), "place")
    axis = axis_of(dim, x.type.rank)
    places = b.node(Sort(axis, x.type.dims[axis] if count is None else count, descending), x)
    return b.aten("aten.gather.default", x, axis, places), places


def lower_sort(
    b: Builder, x: Value, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    return _sorted(b, x, None, dim, descending)


def lower_sort_stable(
    b: Builder, x: Value, stable: bool = False, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    return _sorted(b, x, None, dim, descending)


def lower_argsort(b: Builder, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return _sorted(b, x, None, dim, descending)[1]


def lower_topk(
    b: Builder, x: Value, k: int, dim: int = -1, largest: bool = True, in_order: bool = True
) -> tuple[Value, Value]:
    """Of equal values PyTorch may give any places; ours are the first."""
    return _sorted(b, x, k, dim, largest)


ATEN: dict[str, Lowering] = {
    "aten.sort.default": lower_sort,
    "aten.sort.stable": lower_sort_stable,
    "aten.argsort.default": lower_argsort,
    "aten.topk.default": lower_topk,
}

SAMPLES = (
    Sample("aten.sort.default", X(), outputs=2),
    Sample("aten.sort.default", X(1), outputs=2),
    Sample("aten.sort.default", X(3, 9), -1, True, outputs=2),
    Sample("aten.sort.default", X(5, 3, 2), 0),
    Sample("aten.sort.stable", X(9, special=True), stable=True, dim=0, outputs=2),
    Sample("aten.sort.stable", X(9, special=True), stable=True, descending=True, outputs=2),
    Sample("aten.sort.stable", I(9, low=0, high=3), stable=True, descending=True, outputs=2),
    Sample("aten.argsort.default", X(4, 3), 0),
    Sample("aten.topk.default", X(2, 9), 4, outputs=2),
    Sample("aten.topk.default", X(9, 2), 1, 0, False, outputs=2),
    Sample("aten.topk.default", X(5), 5),
)
