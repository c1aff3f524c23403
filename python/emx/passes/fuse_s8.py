# SPDX-License-Identifier: Apache-2.0
"""Fusion of int8 operators: exact, as each step of what is fused has its own rounding."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from emx.add_s8 import AddS8
from emx.ir import Array, Graph, Node, Op, Value
from emx.ops.binary_s8 import SIGNS, BinaryS8
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.conv3d_s8 import Conv3dS8
from emx.ops.linear_s8 import LinearS8
from emx.ops.movement import Movement, Pad, Permute, Reshape
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.quantize import Dequantize
from emx.ops.resample import Resample
from emx.ops.table_s8 import TableS8
from emx.passes.fuse import padded, padded_axes, sides_of
from emx.passes.reshape import raise_reshape
from emx.passes.rewrite import Edit, Rewriter, replaced
from emx.passes.settle import same_grid


def raise_tables_s8(graph: Graph) -> Graph:
    """table(pad(x)) => pad(table(x)), and likewise with all that repeats elements: fewer of them go
    through the table, and the pad may join a window."""
    return Rewriter(graph).apply(_raise_table)


def fuse_tables_s8(graph: Graph) -> Graph:
    """A table of a table => one; a table that clamps => bounds of the operator before it; one that
    changes nothing goes."""
    return Rewriter(graph).apply(_fuse_table)


def fuse_pad_s8(graph: Graph) -> Graph:
    """A convolution, or pooling, of an image with such values around it that it finds nothing there
    => one with a padded window."""
    return Rewriter(graph).apply(_fuse_pad)


def fuse_residual_s8(graph: Graph) -> Graph:
    """A sum of a convolution and something else => the convolution, with the sum at its end."""
    return Rewriter(graph).apply(_fuse_residual)


def _raise_table(r: Rewriter, node: Node) -> Edit:
    """What is around the image is what the table makes of it."""
    if not isinstance(node.op, TableS8):
        return None
    x, table = node.inputs
    moved = r.made_by(x)
    if moved is None or not _repeats(moved):
        return None
    op = moved.op
    if isinstance(op, Pad):
        op = replace(op, value=float(r.constants[table.name][int(op.value) + 128]))
    inner = r.inner(node.op, (moved.inputs[0], table), node, None)
    return [inner, replaced(node, op, (inner.output, *moved.inputs[1:]))]


def _repeats(node: Node) -> bool:
    """Whether the elements of the output are those of the first operand, or one number, and more
    than there."""
    nearest = isinstance(node.op, Resample) and len(node.inputs) == 2
    moves = nearest or isinstance(node.op, Movement)
    return moves and node.output.type.size > node.inputs[0].type.size


def _fuse_table(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, TableS8):
        return None
    x, table = node.inputs
    before, results = r.made_by(x), r.constants[table.name]
    if before and isinstance(before.op, TableS8):
        both = results[r.constants[before.inputs[1].name].astype(np.int64) + 128]
        op = TableS8(before.op.x, node.op.y)
        return [replaced(node, op, (before.inputs[0], r.constant(table.name, both)))]
    lo, hi = int(results.min()), int(results.max())
    same = same_grid(node.op.x, node.op.y)
    if not (same or _is_private(r, x)) or not _is_clamp(results, lo, hi):
        return None
    if (lo, hi) == (-128, 127):
        return x
    if not same:
        return None
    clamped = _clamped(before.op, lo, hi) if before and r.only_use(x) else None
    return [replaced(node, clamped, before.inputs)] if before and clamped else None


def _is_private(r: Rewriter, x: Value) -> bool:
    """Whether nobody asks what the integers of x stand for: an output might, in another scale."""
    readers = r.readers(x)
    return readers is not None and not any(isinstance(op, Dequantize) for op in readers)


def _is_clamp(results: Array, lo: int, hi: int) -> bool:
    return np.array_equal(results, np.clip(np.arange(-128, 128), lo, hi))


def _clamped(op: Op, lo: int, hi: int) -> Op | None:
    """The operator with its result in lo ... hi."""
    if isinstance(op, Conv2dS8) and op.add:
        return replace(op, add=_clamped_sum(op.add, lo, hi))
    if isinstance(op, Conv2dS8 | Conv2dMixed | LinearS8 | BinaryS8 | Pool2dS8):
        return replace(op, lo=int(np.clip(op.lo, lo, hi)), hi=int(np.clip(op.hi, lo, hi)))
    return None


def _clamped_sum(add: AddS8, lo: int, hi: int) -> AddS8:
    return replace(add, lo=int(np.clip(add.lo, lo, hi)), hi=int(np.clip(add.hi, lo, hi)))


def _fuse_pad(r: Rewriter, node: Node) -> Edit:
    """The pad may stand before the permute that makes the image channels last, or before a reshape
    that adds an axis."""
    if isinstance(node.op, Reshape) and r.only_use(node.inputs[0]):
        return raise_reshape(r, node)
    if not isinstance(node.op, Conv2dS8 | Conv2dMixed | Conv3dS8 | Pool2dS8):
        return None
    permute = pad = r.made_by(node.inputs[0])
    if permute and isinstance(permute.op, Permute):
        pad = r.made_by(permute.inputs[0])
    if pad is None or not isinstance(pad.op, Pad):
        return None
    axes = permute.op.perm if permute and isinstance(permute.op, Permute) else None
    sides = sides_of(pad.op, axes)
    op = _padded(node, sides, pad.op.value) if sides else None
    if op is None:
        return None
    if axes is None or permute is None:
        return [replaced(node, op, (pad.inputs[0], *node.inputs[1:]))]
    image = r.inner(permute.op, pad.inputs, permute, None)
    return [image, replaced(node, op, (image.output, *node.inputs[1:]))]


def _padded(node: Node, sides: list[tuple[int, int]], value: float) -> Op | None:
    """The operator of an image without `value` around it; None if it would give something else."""
    op = node.op
    if len(sides) != node.inputs[0].type.rank - 2:
        return None
    if isinstance(op, Pool2dS8):
        return _padded_pool(node, op, sides, value)
    assert isinstance(op, Conv2dS8 | Conv2dMixed | Conv3dS8)
    if op.x is None or value != op.x.zero:
        return None
    if isinstance(op, Conv3dS8):
        return replace(op, axes=padded_axes(op.axes, sides))
    return replace(op, window=padded(op.window, sides))


def _padded_pool(
    node: Node, op: Pool2dS8, sides: list[tuple[int, int]], value: float
) -> Pool2dS8 | None:
    """A mean still divides by all its taps; each pixel of the result keeps one inside the image."""
    window, (height, width) = padded(op.window, sides), node.inputs[0].type.dims[1:3]
    inside = window.counts(height - sum(sides[0]), width - sum(sides[1]), (0, 0))
    if value != (op.x.zero if op.mean else -128) or not inside.all():
        return None
    if op.mean and any(op.window.pad) and not op.divisor:
        return None
    divisor = op.divisor or prod(op.window.kernel) if op.mean else 0
    return replace(op, window=window, divisor=divisor)


def _fuse_residual(r: Rewriter, node: Node) -> Edit:
    op = node.op
    if not isinstance(op, BinaryS8) or op.kind not in SIGNS:
        return None
    candidates = node.inputs if op.kind == "add" else node.inputs[:1]
    layers = [r.made_by(v) if _takes_sum(r, v, node) else None for v in candidates]
    # Of two layers the later one adds, so that the other's output lives no longer than it must.
    found = [(r.position(n), i, n) for i, n in enumerate(layers) if n]
    if not found:
        return None
    _, at, layer = max(found, key=lambda f: f[:2])
    assert isinstance(layer.op, Conv2dS8)
    a, b = (op.a, op.b) if at == 0 else (op.b, op.a)
    add = AddS8(a, b, op.y, op.lo, op.hi, SIGNS[op.kind])
    return [replaced(node, replace(layer.op, add=add), (*layer.inputs, node.inputs[1 - at]))]


def _takes_sum(r: Rewriter, v: Value, add: Node) -> bool:
    n = r.made_by(v)
    if n is None or not isinstance(n.op, Conv2dS8) or not r.only_use(v):
        return False
    if any(x.type != add.output.type or r.data(x) is not None for x in add.inputs):
        return False
    depthwise = 1 < n.op.groups == n.output.type.dims[-1]
    return n.op.add is None and n.op.direct is None and not depthwise
