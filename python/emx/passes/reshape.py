# SPDX-License-Identifier: Apache-2.0
"""Reshapes on their way: permutes sink through them, they sink through pointwise operators and rise
through pads, so that a 1-D layer, which is a 2-D layer between two reshapes, fuses like one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emx.ir import Node, Op, Value
from emx.ops.batch_norm import BatchNorm
from emx.ops.movement import Pad, Permute, Reshape
from emx.ops.quantize import Dequantize, Quantize
from emx.passes.rewrite import Edit, Rewriter, from_eager, inverse, replaced
from emx.pointwise import Pointwise

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Axes `before` that become the axes `after`; their extents have the same product."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def groups_of(before: Dims, after: Dims) -> list[Group]:
    """A reshape as the smallest groups of axes that stay among themselves, in order. An axis of
    extent 1 that only one side has is a group of its own."""
    groups: list[Group] = []
    i = j = 0
    while i < len(before) or j < len(after):
        at, to = before[i : i + 1], after[j : j + 1]
        if at == to:
            size = (1, 1)
        elif to == (1,):
            size = (0, 1)
        elif at == (1,):
            size = (1, 0)
        else:
            size = _equal_products(before[i:], after[j:])
        groups.append(Group(tuple(range(i, i + size[0])), tuple(range(j, j + size[1]))))
        i, j = i + size[0], j + size[1]
    return groups


def _equal_products(before: Dims, after: Dims) -> tuple[int, int]:
    """How many axes of each side, at least one, have the same product."""
    m, n = 1, 1
    a, b = before[0], after[0]
    while a != b:
        if a < b:
            a, m = a * before[m], m + 1
        else:
            b, n = b * after[n], n + 1
    return m, n


def sink_permute_through_reshape(r: Rewriter, node: Node) -> Edit:
    """reshape(permute(x)) => permute(reshape(x)), where axes that merge are neighbours in x."""
    before = r.made_by(node.inputs[0])
    if not isinstance(node.op, Reshape) or before is None or not isinstance(before.op, Permute):
        return None
    dims = node.output.type.dims
    order = axes_inside(before.inputs[0].type.dims, before.op.perm, dims)
    if order is None:
        return None
    perm = inverse(order)
    eager = from_eager(node.output.eager, order)
    inner = r.inner(Reshape(tuple(dims[j] for j in order)), before.inputs, node, eager)
    return [inner, replaced(node, Permute(perm), (inner.output,))]


def axes_inside(x: Dims, perm: Dims, after: Dims) -> Dims | None:
    """The order in which the axes `after` lie when x is reshaped without the permute."""
    if 0 in x:
        return None
    before = tuple(x[p] for p in perm)
    moved = [p for p, n in enumerate(x) if n != 1]
    groups = groups_of(before, after)
    places: list[int | None] = []
    for g in groups:
        found = [moved.index(perm[i]) for i in g.before if before[i] != 1]
        if found and found != list(range(found[0], found[0] + len(found))):
            return None
        kept = [perm[i] for i in g.before if before[i] != 1 or len(g.before) == 1]
        places.append(min(kept) if kept and g.after else None)
    order = sorted(range(len(groups)), key=lambda k: _place(places, k))
    return tuple(j for k in order for j in groups[k].after)


def _place(places: list[int | None], k: int) -> tuple[int, int]:
    """Where group k goes: a new axis goes with the one to its right, else to its left."""
    right = [p for p in places[k:] if p is not None]
    left = [p for p in places[:k] if p is not None]
    if right:
        return right[0], 0 if places[k] is None else 1
    return (left[-1], 2) if left else (0, 0)


def sink_reshape(r: Rewriter, node: Node) -> Edit:
    """op(reshape(x)) => reshape(op(x)) for operators that work on each element for itself."""
    if not isinstance(node.op, Pointwise | BatchNorm | Quantize | Dequantize):
        return None
    made = [_reshape_before(r, v, node) for v in node.inputs]
    source = next((m for m in made if m), None)
    if source is None or node.output.type.size == 0:
        return None
    x, dims = source.inputs[0].type.dims, node.output.type.dims
    groups = groups_of(x, dims)
    if isinstance(node.op, BatchNorm):
        axes = [g.before[0] for g in groups if g.after == (node.op.axis,) and len(g.before) == 1]
        if not axes:
            return None
        return _before(r, node, replace(node.op, axis=axes[0]), (*source.inputs, *node.inputs[1:]))
    inputs = [
        m.inputs[0] if m and m.inputs[0].type.dims == x else _operand(r, v, groups, x, dims)
        for m, v in zip(made, node.inputs, strict=True)
    ]
    found = [v for v in inputs if v]
    return _before(r, node, node.op, tuple(found)) if len(found) == len(inputs) else None


def _reshape_before(r: Rewriter, v: Value, node: Node) -> Node | None:
    made = r.made_by(v)
    whole = v.type.dims == node.output.type.dims
    return made if whole and made and isinstance(made.op, Reshape) else None


def _operand(r: Rewriter, v: Value, groups: list[Group], x: Dims, after: Dims) -> Value | None:
    """The constant v, which broadcasts to `after`, as it broadcasts to x."""
    data = r.data(v)
    if data is None:
        return None
    shape = (1,) * (len(after) - data.ndim) + data.shape
    dims = list(x)
    for g in groups:
        part = [shape[j] for j in g.after]
        if all(n == 1 for n in part):
            for i in g.before:
                dims[i] = 1
        elif part != [after[j] for j in g.after]:
            return None
    return r.moved(v, v.name, lambda a: a.reshape(dims))


def _before(r: Rewriter, node: Node, op: Op, inputs: tuple[Value, ...]) -> list[Node]:
    inner = r.inner(op, inputs, node, node.output.eager)
    return [inner, replaced(node, Reshape(node.output.type.dims), (inner.output,))]


def raise_reshape(r: Rewriter, node: Node) -> Edit:
    """reshape(pad(x)) => pad(reshape(x)), where the padded axes stay."""
    before = r.made_by(node.inputs[0])
    if not isinstance(node.op, Reshape) or before is None or not isinstance(before.op, Pad):
        return None
    pad, dims = before.op, before.output.type.dims
    inner, low, high = list(node.op.shape), [0] * len(node.op.shape), [0] * len(node.op.shape)
    if 0 in dims:
        return None
    for g in groups_of(dims, node.op.shape):
        padded = [i for i in g.before if pad.before[i] or pad.after[i]]
        if padded and (len(g.before), len(g.after)) != (1, 1):
            return None
        for i in padded:
            (j,) = g.after
            inner[j] = before.inputs[0].type.dims[i]
            low[j], high[j] = pad.before[i], pad.after[i]
    x = r.inner(Reshape(tuple(inner)), before.inputs, before, None)
    return [x, replaced(node, Pad(tuple(low), tuple(high), pad.value), (x.output,))]


def raise_permute(r: Rewriter, node: Node) -> Edit:
    """permute(reshape(permute(x))) => reshape(permute(x)), where the axes that one axis came from
    or became stay together."""
    if not isinstance(node.op, Permute):
        return None
    reshape = r.made_by(node.inputs[0])
    if reshape is None or not isinstance(reshape.op, Reshape) or not r.only_use(reshape.output):
        return None
    first = r.made_by(reshape.inputs[0])
    if first is None or not isinstance(first.op, Permute) or not r.only_use(first.output):
        return None
    order = _order_before(first.output.type.dims, reshape.output.type.dims, node.op.perm)
    if order is None:
        return None
    perm = tuple(first.op.perm[i] for i in order)
    inner = r.inner(Permute(perm), first.inputs, node, None)
    return [inner, replaced(node, Reshape(node.output.type.dims), (inner.output,))]


def _order_before(before: Dims, after: Dims, perm: Dims) -> Dims | None:
    """The permute of the axes `before` a reshape that does what `perm` does `after` it."""
    if 0 in before:
        return None
    groups = groups_of(before, after)
    for g in groups:
        found = [perm.index(j) for j in g.after]
        if found and found != list(range(found[0], found[0] + len(found))):
            return None
    order = sorted(groups, key=lambda g: perm.index(g.after[0]) if g.after else -1)
    return tuple(i for g in order for i in g.before)
