# SPDX-License-Identifier: Apache-2.0
"""Tensors joined along an axis, and cut apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of, promoted
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Rows, Wishes
from emx.rows import same_rows
from emx.sample import B, I, Sample, X
from emx.target import Target


@dataclass(frozen=True)
class Concat(Op):
    """Two to eight inputs of one type, that differ only in their extents along `axis`."""

    name: ClassVar[str] = "concat"
    MAX_INPUTS: ClassVar[int] = 8
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        dims = list(types[0].dims)
        dims[self.axis] = sum(t.dims[self.axis] for t in types)
        return TensorType(tuple(dims), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        return np.concatenate(arrays, self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        y = node.output.type
        runs = [prod(v.type.dims[self.axis :]) * y.dtype.bytes for v in node.inputs]
        return Kernel(
            header="concat",
            function="emx_concat",
            inputs={f"x{i}": i for i in range(len(runs))},
            params={
                "inputs": len(runs),
                "rows": prod(y.dims[: self.axis]),
                "run": tuple(runs) + (0,) * (self.MAX_INPUTS - len(runs)),
            },
            key=("inputs",),
            array=True,
        )

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes) if self.axis > 1 else None


def lower_cat(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Of one type after promotion. Tensors of shape [0] count for nothing, as in PyTorch."""
    dtype = promoted(*tensors)
    parts = [v for v in tensors if v.type.dims != (0,)] or list(tensors[:1])
    return _joined(b, [b.aten("aten._to_copy.default", v, dtype=dtype) for v in parts], dim)


def _joined(b: Builder, parts: list[Value], dim: int) -> Value:
    """More than eight are joined in groups of eight."""
    if len(parts) == 1:
        return parts[0]
    axis = axis_of(dim, parts[0].type.rank)
    most = Concat.MAX_INPUTS
    if len(parts) <= most:
        return b.node(Concat(axis), *parts)
    groups = [parts[i : i + most] for i in range(0, len(parts), most)]
    return _joined(b, [_joined(b, group, axis) for group in groups], axis)


def lower_stack(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = axis_of(dim, tensors[0].type.rank + 1)
    return lower_cat(b, [b.aten("aten.unsqueeze.default", v, axis) for v in tensors], axis)


def lower_split_sizes(
    b: Builder, x: Value, sizes: Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    ends = np.cumsum(sizes).tolist()
    return tuple(
        b.aten("aten.slice.Tensor", x, dim, end - n, end)
        for n, end in zip(sizes, ends, strict=True)
    )


def lower_split(b: Builder, x: Value, size: int, dim: int = 0) -> tuple[Value, ...]:
    """Parts of `size` along the axis; the last may be smaller."""
    extent = x.type.dims[axis_of(dim, x.type.rank)]
    starts = range(0, max(extent, 1), max(size, 1))
    return lower_split_sizes(b, x, [min(size, extent - s) for s in starts], dim)


def lower_chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    extent = x.type.dims[axis_of(dim, x.type.rank)]
    return lower_split(b, x, -(-extent // chunks), dim)


def lower_unbind(b: Builder, x: Value, dim: int = 0) -> tuple[Value, ...]:
    extent = x.type.dims[axis_of(dim, x.type.rank)]
    return tuple(b.aten("aten.select.int", x, dim, i) for i in range(extent))


def lower_roll(b: Builder, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Without dims, over the flattened tensor."""
    if not dims:
        flat = b.aten("aten.reshape.default", x, (-1,))
        return b.aten("aten.reshape.default", lower_roll(b, flat, shifts, (0,)), x.type.dims)
    for shift, dim in zip(shifts, dims, strict=True):
        extent = x.type.dims[axis_of(dim, x.type.rank)]
        cut = -shift % extent if extent else 0
        if cut:
            x = lower_cat(b, lower_split_sizes(b, x, (cut, extent - cut), dim)[::-1], dim)
    return x


def lower_pad(b: Builder, x: Value, pad: Sequence[int], mode: str, value: object = None) -> Value:
    """pad counts from the last axis, (before, after) each; other modes than constant take what
    they add from x itself."""
    for i in range(len(pad) // 2):
        axis = x.type.rank - 1 - i
        x = _padded(b, x, axis, pad[2 * i], pad[2 * i + 1], mode)
    return x


def _padded(b: Builder, x: Value, axis: int, before: int, after: int, mode: str) -> Value:
    n = x.type.dims[axis]
    if min(before, after) < 0:
        start, end = max(0, -before), n - max(0, -after)
        x = b.aten("aten.slice.Tensor", x, axis, start, end)
        n, before, after = end - start, max(0, before), max(0, after)
    if mode == "reflect":
        parts = (_flipped(b, x, axis, 1, before), _flipped(b, x, axis, n - 1 - after, after))
    elif mode == "replicate":
        parts = (_repeated(b, x, axis, 0, before), _repeated(b, x, axis, n - 1, after))
    elif mode == "circular":
        parts = (_part(b, x, axis, n - before, before), _part(b, x, axis, 0, after))
    else:
        raise Unsupported(f"padding of mode {mode} is not supported", "use constant or reflect")
    first, last = parts
    ends = [v for v, count in ((first, before), (x, n), (last, after)) if count]
    return lower_cat(b, ends, axis)


def _part(b: Builder, x: Value, axis: int, start: int, count: int) -> Value:
    return b.aten("aten.slice.Tensor", x, axis, start, start + count)


def _flipped(b: Builder, x: Value, axis: int, start: int, count: int) -> Value:
    return b.aten("aten.flip.default", _part(b, x, axis, start, count), (axis,))


def _repeated(b: Builder, x: Value, axis: int, start: int, count: int) -> Value:
    dims = [count if i == axis else n for i, n in enumerate(x.type.dims)]
    return b.aten("aten.expand.default", _part(b, x, axis, start, 1), dims)


def _pad_of(mode: str) -> Lowering:
    def lower(b: Builder, x: Value, pad: Sequence[int]) -> Value:
        return lower_pad(b, x, pad, mode)

    return lower


ATEN: dict[str, Lowering] = {
    "aten.cat.default": lower_cat,
    "aten.concat.default": lower_cat,
    "aten.stack.default": lower_stack,
    "aten.split.Tensor": lower_split,
    "aten.split.sizes": lower_split_sizes,
    "aten.split_with_sizes.default": lower_split_sizes,
    "aten.chunk.default": lower_chunk,
    "aten.unbind.int": lower_unbind,
    "aten.roll.default": lower_roll,
    **{f"aten.reflection_pad{n}d.default": _pad_of("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": _pad_of("replicate") for n in (1, 2, 3)},
    "aten._pad_circular.default": _pad_of("circular"),
    "aten._pad_enum.default": lambda b, x, pad, mode, value=None: lower_pad(
        b, x, pad, ("reflect", "replicate", "circular", "constant")[mode], value
    ),
}

SAMPLES = (
    Sample("aten.cat.default", [X(2, 3), X(2, 1)], 1),
    Sample("aten.cat.default", [X(0), X(2, 1)], -1),
    Sample("aten.cat.default", [X(3)]),
    Sample("aten.cat.default", [X(3), I(2)]),
    Sample("aten.cat.default", [B(3), B(2)]),
    Sample("aten.cat.default", [X(1, 2, 3)] * 11, 1),
    Sample("aten.concat.default", [X(2, 3, 2), X(4, 3, 2), X(1, 3, 2)]),
    Sample("aten.stack.default", [X(2, 3), X(2, 3)], -1),
    Sample("aten.stack.default", [X(), X(), X()]),
    Sample("aten.split.Tensor", X(7, 2), 3, outputs=3),
    Sample("aten.split.sizes", X(2, 7), [2, 5], 1, outputs=2),
    Sample("aten.split_with_sizes.default", X(2, 7), [1, 2, 4], -1, outputs=3),
    Sample("aten.chunk.default", X(2, 7), 3, 1, outputs=3),
    Sample("aten.unbind.int", X(3, 2), outputs=3),
    Sample("aten.unbind.int", X(3, 2), -1, outputs=2),
    Sample("aten.roll.default", X(3, 5), [2, -1], [1, 0]),
    Sample("aten.roll.default", X(3, 5), [4]),
    *(
        Sample(f"aten.{kind}_pad1d.default", X(2, 3, 5), [2, 1])
        for kind in ("reflection", "replication")
    ),
    *(
        Sample(f"aten.{kind}_pad2d.default", X(1, 2, 4, 5), [2, 1, 0, 3])
        for kind in ("reflection", "replication")
    ),
    *(
        Sample(f"aten.{kind}_pad3d.default", X(1, 1, 3, 4, 3), [1, 1, 2, 0, 1, 2])
        for kind in ("reflection", "replication")
    ),
    Sample("aten._pad_circular.default", X(1, 2, 5), [2, 3]),
    Sample("aten._pad_enum.default", X(1, 2, 5), [2, 3], 1),
)
