# SPDX-License-Identifier: Apache-2.0
"""The movement table: operators that only move data, each as one index map.

y[y_start + sum i[d]*y_step[d]] = x[x_start + sum i[d]*x_step[d]], after y was filled.
A reshape moves nothing: its output is its input under another shape.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel
from emx.pointwise import right_aligned
from emx.sample import B, I, Sample, X

MAX_RANK = 6


@dataclass(frozen=True)
class IndexMap:
    """Extents of the moved block and its steps in x and y, all in elements."""

    extent: tuple[int, ...]
    x_step: tuple[int, ...]
    y_step: tuple[int, ...]
    x_start: int = 0
    y_start: int = 0
    fill_count: int = 0
    fill: float = 0.0


@dataclass(frozen=True)
class Movement(Op):
    """Base of the rows: a row gives its output type, its index map and NumPy's word for it."""

    @abstractmethod
    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        """Where the elements of x go in y."""

    def view(self, x: TensorType, y: TensorType) -> int | None:
        """Where y starts in x, in elements, if it is one run of memory there; None if not."""
        m = self.map(x, y)
        _, x_step, y_step = _collapse(m)
        whole = m.fill_count == 0 and y_step in ((), (1,)) and x_step in ((), (1,))
        return m.x_start if whole and y.size else None

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        m = self.map(node.inputs[0].type, node.output.type)
        extent, x_step, y_step = _collapse(m)
        if len(extent) > MAX_RANK:
            raise Unsupported(f"moving {len(extent)} axes is not supported", "reshape first")
        return Kernel(
            header="movement",
            function="emx_movement",
            inputs={"x": 0},
            params={
                "size": node.output.type.dtype.bytes,
                "extent": right_aligned(extent, MAX_RANK, 1),
                "x_start": m.x_start, "x_step": right_aligned(x_step, MAX_RANK, 0),
                "y_start": m.y_start, "y_step": right_aligned(y_step, MAX_RANK, 0),
                "fill_count": m.fill_count, "fill": _bits(m.fill, node.output.type.dtype),
            },
            key=("size",),
        )  # fmt: skip


def _bits(value: float, dtype: DType) -> int:
    """The bits of an element, as a whole number."""
    return int.from_bytes(np.array(value, dtype.numpy).tobytes(), "little", signed=True)


@dataclass(frozen=True)
class Permute(Movement):
    """Axis i of y is axis perm[i] of x."""

    name: ClassVar[str] = "permute"
    perm: tuple[int, ...]

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(tuple(types[0].dims[p] for p in self.perm), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        return arrays[0].transpose(self.perm)

    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        x_step = contiguous(x.dims)
        return IndexMap(y.dims, tuple(x_step[p] for p in self.perm), contiguous(y.dims))


@dataclass(frozen=True)
class Pad(Movement):
    """`before[d]` and `after[d]` elements of `value` around x; negative ones cut x off."""

    name: ClassVar[str] = "pad"
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0

    def infer(self, *types: TensorType) -> TensorType:
        sides = zip(types[0].dims, self.before, self.after, strict=True)
        return TensorType(tuple(n + b + a for n, b, a in sides), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        sides = list(zip(self.before, self.after, strict=True))
        cut = tuple(
            slice(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(x.shape, sides, strict=True)
        )
        grow = [(max(0, b), max(0, a)) for b, a in sides]
        return np.pad(x[cut], grow, constant_values=self.value)

    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        x_step, y_step = contiguous(x.dims), contiguous(y.dims)
        sides = list(zip(x.dims, self.before, self.after, strict=True))
        return IndexMap(
            extent=tuple(n + min(0, b) + min(0, a) for n, b, a in sides),
            x_step=x_step,
            y_step=y_step,
            x_start=sum(max(0, -b) * s for b, s in zip(self.before, x_step, strict=True)),
            y_start=sum(max(0, b) * s for b, s in zip(self.before, y_step, strict=True)),
            fill_count=y.size,
            fill=self.value,
        )


@dataclass(frozen=True)
class Slice(Movement):
    """y[i] = x[start + i * step] on one axis."""

    name: ClassVar[str] = "slice"
    axis: int
    start: int
    count: int
    step: int = 1

    def infer(self, *types: TensorType) -> TensorType:
        dims = list(types[0].dims)
        dims[self.axis] = self.count
        return TensorType(tuple(dims), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        stop = self.start + self.step * self.count
        index = slice(self.start, None if stop < 0 else stop, self.step)
        return arrays[0][(slice(None),) * self.axis + (index,)]

    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        x_step = contiguous(x.dims)
        steps = tuple(s * self.step if d == self.axis else s for d, s in enumerate(x_step))
        return IndexMap(y.dims, steps, contiguous(y.dims), x_start=self.start * x_step[self.axis])


@dataclass(frozen=True)
class Expand(Movement):
    """NumPy's broadcast_to."""

    name: ClassVar[str] = "expand"
    shape: tuple[int, ...]

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.shape, types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        return np.broadcast_to(arrays[0], self.shape)

    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        dims = (1,) * (y.rank - x.rank) + x.dims
        steps = tuple(0 if n == 1 else s for n, s in zip(dims, contiguous(dims), strict=True))
        return IndexMap(y.dims, steps, contiguous(y.dims))


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in the same order under another shape; no kernel runs."""

    name: ClassVar[str] = "reshape"
    shape: tuple[int, ...]

    def infer(self, *types: TensorType) -> TensorType:
        y = TensorType(self.shape, types[0].dtype)
        if y.size != types[0].size:
            raise Unsupported(f"{types[0]} cannot become {y}", "check the shape")
        return y

    def reference(self, *arrays: Array) -> Array:
        return arrays[0].reshape(self.shape)


@dataclass(frozen=True)
class Copy(Movement):
    """y = x, where an output must be memory of its own."""

    name: ClassVar[str] = "copy"

    def view(self, x: TensorType, y: TensorType) -> int | None:
        return None

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        return arrays[0].copy()

    def map(self, x: TensorType, y: TensorType) -> IndexMap:
        return IndexMap(y.dims, contiguous(x.dims), contiguous(y.dims))


def contiguous(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of a contiguous tensor, in elements."""
    return tuple(int(np.prod(dims[i + 1 :], dtype=np.int64)) for i in range(len(dims)))


def _collapse(m: IndexMap) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Merge neighbouring axes that both sides walk in one stride, and drop axes of extent 1."""
    axes: list[tuple[int, int, int]] = []
    for n, s, t in zip(m.extent, m.x_step, m.y_step, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == s * n and axes[-1][2] == t * n:
            axes[-1] = (axes[-1][0] * n, s, t)
        else:
            axes.append((n, s, t))
    columns = list(zip(*axes, strict=True)) or [(), (), ()]
    return columns[0], columns[1], columns[2]


def lower_reshape(b: Builder, x: Value, shape: Sequence[int]) -> Value:
    if -1 in shape:
        known = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
        shape = [x.type.size // max(known, 1) if n == -1 else n for n in shape]
    return b.node(Reshape(tuple(shape)), x)


def lower_flatten(b: Builder, x: Value, start: int = 0, end: int = -1) -> Value:
    dims = x.type.dims or (1,)
    first, last = axis_of(start, len(dims)), axis_of(end, len(dims))
    middle = int(np.prod(dims[first : last + 1], dtype=np.int64))
    return b.node(Reshape((*dims[:first], middle, *dims[last + 1 :])), x)


def lower_squeeze(b: Builder, x: Value, axes: int | Sequence[int] | None = None) -> Value:
    rank = x.type.rank
    chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    drop = {axis_of(a, rank) for a in chosen}
    dims = [n for i, n in enumerate(x.type.dims) if not (i in drop and n == 1)]
    return b.node(Reshape(tuple(dims)), x)


def lower_unsqueeze(b: Builder, x: Value, axis: int) -> Value:
    dims = list(x.type.dims)
    dims.insert(axis_of(axis, x.type.rank + 1), 1)
    return b.node(Reshape(tuple(dims)), x)


def lower_permute(b: Builder, x: Value, perm: Sequence[int]) -> Value:
    return b.node(Permute(tuple(axis_of(p, x.type.rank) for p in perm)), x)


def lower_transpose(b: Builder, x: Value, first: int, second: int) -> Value:
    perm = list(range(x.type.rank))
    i, j = axis_of(first, len(perm)), axis_of(second, len(perm))
    if perm:
        perm[i], perm[j] = perm[j], perm[i]
    return b.node(Permute(tuple(perm)), x)


def lower_t(b: Builder, x: Value) -> Value:
    return lower_transpose(b, x, 0, 1) if x.type.rank == 2 else x


def lower_pad(
    b: Builder, x: Value, pad: Sequence[int], mode: str | float = "constant", value: object = None
) -> Value:
    """aten.pad(x, pad, mode, value) and aten.constant_pad_nd(x, pad, value); pad counts from the
    last axis, (before, after) each."""
    modes = {"reflect": 0, "replicate": 1, "circular": 2}
    if mode in modes:
        return b.aten("aten._pad_enum.default", x, pad, modes[mode])
    fill = mode if not isinstance(mode, str) else value
    missing = x.type.rank - len(pad) // 2
    before = (0,) * missing + tuple(pad[0::2])[::-1]
    after = (0,) * missing + tuple(pad[1::2])[::-1]
    return b.node(Pad(before, after, float(fill) if isinstance(fill, int | float) else 0.0), x)


def lower_slice(
    b: Builder,
    x: Value,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    axis = axis_of(axis, x.type.rank)
    first, last, _ = slice(start, end).indices(x.type.dims[axis])
    return b.node(Slice(axis, first, max(0, -(-(last - first) // step)), step), x)


def lower_select(b: Builder, x: Value, axis: int, index: int) -> Value:
    axis = axis_of(axis, x.type.rank)
    y = b.node(Slice(axis, index % x.type.dims[axis], 1), x)
    return lower_squeeze(b, y, axis)


def lower_expand(b: Builder, x: Value, shape: Sequence[int], implicit: bool = False) -> Value:
    dims = (1,) * (len(shape) - x.type.rank) + x.type.dims
    return b.node(Expand(tuple(d if n == -1 else n for n, d in zip(shape, dims, strict=True))), x)


def lower_flip(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    for axis in {axis_of(a, x.type.rank) for a in axes}:
        n = x.type.dims[axis]
        x = b.node(Slice(axis, n - 1, n, -1), x) if n > 1 else x
    return x


def lower_identity(b: Builder, x: Value, *args: object, **kwargs: object) -> Value:
    """Calls that leave the values as they are; export checked that the type stays too."""
    return x


ATEN: dict[str, Lowering] = {
    **dict.fromkeys(
        ("aten.reshape.default", "aten.view.default", "aten._unsafe_view.default"), lower_reshape
    ),
    **dict.fromkeys(
        (
            "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
            "aten.alias.default", "aten.dropout.default", "aten.lift_fresh_copy.default",
        ),
        lower_identity,
    ),
    "aten.flatten.using_ints": lower_flatten,
    "aten.squeeze.default": lower_squeeze,
    "aten.squeeze.dim": lower_squeeze,
    "aten.squeeze.dims": lower_squeeze,
    "aten.unsqueeze.default": lower_unsqueeze,
    "aten.permute.default": lower_permute,
    "aten.transpose.int": lower_transpose,
    "aten.t.default": lower_t,
    "aten.pad.default": lower_pad,
    "aten.constant_pad_nd.default": lower_pad,
    "aten.slice.Tensor": lower_slice,
    "aten.select.int": lower_select,
    "aten.expand.default": lower_expand,
    "aten.expand_as.default": lambda b, x, y: lower_expand(b, x, y.type.dims),
    "aten.flip.default": lower_flip,
}  # fmt: skip

SAMPLES = (
    Sample("aten.permute.default", X(2, 3, 4), [2, 0, 1]),
    Sample("aten.permute.default", X(2, 3, 4, 5), [0, -2, -1, 1]),
    Sample("aten.transpose.int", X(3, 5), 0, -1),
    Sample("aten.t.default", X(3, 5)),
    Sample("aten.reshape.default", X(2, 6), [3, -1]),
    Sample("aten.flatten.using_ints", X(2, 3, 4), 1),
    Sample("aten.flatten.using_ints", X(), 0),
    Sample("aten.squeeze.default", X(1, 3, 1)),
    Sample("aten.squeeze.dim", X(1, 3, 1), -1),
    Sample("aten.squeeze.dims", X(1, 3, 1), [0, -1]),
    Sample("aten.unsqueeze.default", X(2, 3), -1),
    Sample("aten.pad.default", X(1, 2, 3, 3), [1, 2, 0, 1]),
    Sample("aten.pad.default", X(2, 5), [-1, 2], "constant", 1.5),
    Sample("aten.constant_pad_nd.default", X(3), [2, 0], -1.0),
    Sample("aten.slice.Tensor", X(3, 9), 1, -7, 9223372036854775807, 3),
    Sample("aten.select.int", X(4, 3, 2), 1, -1),
    Sample("aten.expand.default", X(3, 1), [2, 3, 4]),
    Sample("aten.expand_as.default", X(3, 1), X(2, 3, 4)),
    Sample("aten.flip.default", X(2, 3, 4), [0, -1]),
    Sample("aten.flip.default", I(5), [0]),
    Sample("aten.flip.default", B(5), [0]),
    Sample("aten.permute.default", I(2, 3, dtype=DType.S16), [1, 0]),
    Sample("aten.slice.Tensor", X(4, 3), 0, 1, 3),
    Sample("aten.slice.Tensor", X(4, 3), 0, 5, 9),
    Sample("aten.select.int", I(4, 3), 0, 2),
    Sample("aten.constant_pad_nd.default", I(3), [2, 0], -1),
    Sample("aten.constant_pad_nd.default", B(3), [2, 0], True),
    Sample("aten.clone.default", X(3)),
)
