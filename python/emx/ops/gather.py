# SPDX-License-Identifier: Apache-2.0
"""Rows picked by number: embeddings, index_select, x[index]; and rows put in by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel
from emx.sample import I, P, Sample, X


@dataclass(frozen=True)
class Gather(Op):
    """Inputs x and index (s32 or s64, any shape); index takes the place of `axis` of x."""

    name: ClassVar[str] = "gather"
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        x, index = types
        return TensorType((*x.dims[: self.axis], *index.dims, *x.dims[self.axis + 1 :]), x.dtype)

    def reference(self, *arrays: Array) -> Array:
        x, index = arrays
        return np.take(x, index, self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, index = (v.type for v in node.inputs)
        return Kernel(
            header="gather",
            function="emx_gather",
            inputs={"x": 0, "index": 1},
            params={
                "outer": prod(x.dims[: self.axis]),
                "extent": x.dims[self.axis],
                "run": prod(x.dims[self.axis + 1 :]) * x.dtype.bytes,
                "count": index.size,
                "index_size": index.dtype.bytes,
            },
            key=("index_size",),
        )


@dataclass(frozen=True)
class TakeAlong(Op):
    """NumPy's take_along_axis of x and index, whose extents agree but along `axis`."""

    name: ClassVar[str] = "take_along"
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        x, index = types
        return TensorType(index.dims, x.dtype)

    def reference(self, *arrays: Array) -> Array:
        return np.take_along_axis(arrays[0], arrays[1], self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        return Kernel(
            header="take_along",
            function="emx_take_along",
            inputs={"x": 0, "index": 1},
            params=_along(node, self.axis),
            key=("size", "index_size"),
        )


@dataclass(frozen=True)
class PutAlong(Op):
    """NumPy's put_along_axis of x, index and values, the last of them at equal places."""

    name: ClassVar[str] = "put_along"
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        x, index, values = arrays
        y = x.copy()
        np.put_along_axis(y, index, values, self.axis)
        return y

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        return Kernel(
            header="take_along",
            function="emx_put_along",
            inputs={"x": 0, "index": 1, "v": 2},
            params=_along(node, self.axis),
            key=("size", "index_size"),
        )


def _along(node: Node, axis: int) -> dict[str, int]:
    x, index = (v.type for v in node.inputs[:2])
    return {
        "outer": prod(x.dims[:axis]),
        "extent": x.dims[axis],
        "inner": prod(x.dims[axis + 1 :]),
        "count": index.dims[axis],
        "size": x.dtype.bytes,
        "index_size": index.dtype.bytes,
    }


def _require_index(*values: Value) -> None:
    for v in values:
        if v.type.dtype not in (DType.S32, DType.S64):
            raise Unsupported(
                f"an index of {v.type.dtype.value} is not supported",
                "the shape of the result would depend on the values: use torch.where with a mask",
            )


def lower_embedding(
    b: Builder,
    weight: Value,
    index: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    _require_index(index)
    return b.node(Gather(0), weight, index)


def lower_index_select(b: Builder, x: Value, dim: int, index: Value) -> Value:
    _require_index(index)
    flat = b.aten("aten.reshape.default", index, (-1,))
    return b.node(Gather(axis_of(dim, x.type.rank)), x, flat)


def lower_gather(b: Builder, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """x may be larger than the index; what lies beyond is not read."""
    _require_index(index)
    if x.type.rank == 0:
        return x
    axis = axis_of(dim, x.type.rank)
    return b.node(TakeAlong(axis), _cut(b, x, index.type.dims, axis), index)


def _cut(b: Builder, x: Value, dims: Sequence[int], but: int | None = None) -> Value:
    """The first elements of x along every axis."""
    for axis, n in enumerate(dims):
        if axis != but and x.type.dims[axis] != n:
            x = b.aten("aten.slice.Tensor", x, axis, 0, n)
    return x


def lower_scatter(b: Builder, x: Value, dim: int, index: Value, source: Value | float) -> Value:
    _require_index(index)
    axis = axis_of(dim, x.type.rank)
    sizes = zip(x.type.dims, index.type.dims, strict=True)
    if any(i != axis and n != m for i, (n, m) in enumerate(sizes)):
        raise Unsupported(
            f"scatter of {index.type} into {x.type} is not supported", "make the shapes agree"
        )
    if not isinstance(source, Value):
        source = b.constant(np.full(index.type.dims, source, x.type.dtype.numpy), "value")
    return b.node(PutAlong(axis), x, index, _cut(b, source, index.type.dims))


def lower_index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[i, j] or x[:, i, j]; the indices broadcast, and stand where the first one stood, or in
    front if there is a colon between them."""
    x, axis, index = _one_index(b, x, indices)
    return b.node(Gather(axis), x, index)


def _one_index(b: Builder, x: Value, indices: Sequence[Value | None]) -> tuple[Value, int, Value]:
    """x with the indexed axes made one, which one it is, and the index along it."""
    chosen = [(a, v) for a, v in enumerate(indices) if v is not None]
    _require_index(*(v for _, v in chosen))
    axes = [a for a, _ in chosen]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        rest = [a for a in range(x.type.rank) if a not in axes]
        x = b.aten("aten.permute.default", x, (*axes, *rest))
        axes = list(range(len(axes)))
    if len(axes) == 1:
        return x, axes[0], chosen[0][1]
    first, last = axes[0], axes[-1] + 1
    extents = x.type.dims[first:last]
    index = None
    for n, (_, v) in zip(extents, chosen, strict=True):
        place = b.aten("aten.remainder.Scalar", v, n)
        index = (
            place
            if index is None
            else b.aten("aten.add.Tensor", b.aten("aten.mul.Scalar", index, n), place)
        )
    assert index
    dims = (*x.type.dims[:first], prod(extents), *x.type.dims[last:])
    return b.aten("aten.reshape.default", x, dims), first, index


def lower_index_put(
    b: Builder,
    x: Value,
    indices: Sequence[Value | None],
    values: Value,
    accumulate: bool = False,
    unsafe: bool = False,
) -> Value:
    if accumulate or None in indices:
        raise Unsupported("this form of index_put is not supported", "use torch.scatter or where")
    dims = x.type.dims
    flat, _, index = _one_index(b, x, indices)
    rest = flat.type.dims[1:]
    run, count = prod(rest), index.type.size
    values = b.aten("aten.expand.default", values, (*index.type.dims, *rest))
    rows = b.aten("aten.reshape.default", index, (count, 1))
    y = b.node(
        PutAlong(0),
        b.aten("aten.reshape.default", flat, (flat.type.dims[0], run)),
        b.aten("aten.expand.default", rows, (count, run)),
        b.aten("aten.reshape.default", values, (count, run)),
    )
    return b.aten("aten.reshape.default", y, dims)


ATEN: dict[str, Lowering] = {
    "aten.embedding.default": lower_embedding,
    "aten.index_select.default": lower_index_select,
    "aten.gather.default": lower_gather,
    "aten.scatter.src": lower_scatter,
    "aten.scatter.value": lower_scatter,
    "aten.index.Tensor": lower_index,
    "aten.index_put.default": lower_index_put,
}

SAMPLES = (
    Sample("aten.embedding.default", P(7, 3), I(2, 4, low=0, high=7)),
    Sample("aten.embedding.default", P(7, 3), I(low=0, high=7)),
    Sample("aten.embedding.default", P(7, 3), I(5, low=0, high=7, dtype=DType.S32), 0),
    Sample("aten.index_select.default", X(3, 5, 2), 1, I(4, low=0, high=5)),
    Sample("aten.index_select.default", X(3, 5), -1, I(4, low=0, high=5)),
    Sample("aten.gather.default", X(3, 5), 1, I(3, 2, low=0, high=5)),
    Sample("aten.gather.default", X(3, 5, 2), 0, I(2, 4, 2, low=0, high=3)),
    Sample("aten.scatter.src", X(5, 3), 0, I(1, 3, low=0, high=5), X(2, 3)),
    Sample("aten.scatter.value", X(5, 3), -1, I(5, 1, low=0, high=3), 2.5),
    Sample("aten.index.Tensor", X(5, 3), [I(2, 2, low=-5, high=5)]),
    Sample("aten.index.Tensor", X(5, 3, 2), [None, I(4, low=-3, high=3)]),
    Sample("aten.index.Tensor", X(5, 3, 2), [I(4, low=-5, high=5), I(3, 1, low=-3, high=3)]),
    Sample("aten.index.Tensor", X(5, 3, 2), [I(4, low=0, high=5), None, I(4, low=0, high=2)]),
    Sample("aten.index_put.default", X(5, 3), [P(2, low=1, high=3, dtype=DType.S64)], X(2, 3)),
    Sample("aten.index_put.default", X(5, 3), [I(1, low=0, high=5), I(1, low=0, high=3)], X()),
)
