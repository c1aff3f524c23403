# SPDX-License-Identifier: Apache-2.0
"""Layout: permutes sink towards the outputs, meet and cancel, so that images are channels last."""

from __future__ import annotations

from dataclasses import replace

from emx.ir import Eager, Graph, Node, Op, Value
from emx.ops.adaptive_pool import AdaptivePool
from emx.ops.batch_norm import BatchNorm
from emx.ops.concat import Concat
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.group_norm import GroupNorm
from emx.ops.layer_norm import LayerNorm
from emx.ops.movement import Expand, Pad, Permute, Reshape, Slice
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.reduce import Reduce
from emx.ops.resample import Resample
from emx.ops.rms_norm import RmsNorm
from emx.ops.softmax import Softmax
from emx.passes.reshape import (
    axes_inside,
    raise_permute,
    raise_reshape,
    sink_permute_through_reshape,
    sink_reshape,
)
from emx.passes.rewrite import Edit, Rewriter, from_eager, inverse, replaced
from emx.pointwise import Pointwise

Perm = tuple[int, ...]


def sink_permutes(graph: Graph) -> Graph:
    """op(permute(x)) => permute(op'(x)), for every operator that does not care; pairs cancel."""
    return Rewriter(_named_inside(graph)).apply(_sink)


def merge_permutes(graph: Graph) -> Graph:
    """permute(reshape(permute(x))) => reshape(permute(x)): one movement instead of two."""
    return Rewriter(graph).apply(raise_permute)


def drop_idle_permutes(graph: Graph) -> Graph:
    """A permute that moves only axes of extent 1 => reshape, reshapes of reshapes merge, and
    slices of everything go."""
    return Rewriter(graph).apply(_drop_idle)


def absorb_input_layout(graph: Graph) -> Graph:
    """conv2d(permute(x)) => conv2d that reads x channels first, by its strides."""
    return Rewriter(graph).apply(_absorb)


def _named_inside(graph: Graph) -> Graph:
    """What a lowering computes under a permute is PyTorch's tensor too, only laid out otherwise."""
    views: dict[str, Eager | None] = {}
    shapes: dict[str, tuple[int, ...]] = {}  # of the views: reshaping leaves the elements in order
    for n in reversed(graph.nodes):
        x, eager = n.inputs[0], n.output.eager or views.get(n.output.name)
        shape = shapes.get(n.output.name, n.output.type.dims)
        if isinstance(n.op, Permute):
            order = axes_inside(x.type.dims, n.op.perm, shape)
            views[x.name] = from_eager(eager, order) if order else None
        elif isinstance(n.op, Reshape) and eager and x.eager is None:
            views[x.name], shapes[x.name] = eager, shape
    nodes = [
        n
        if n.output.eager or not views.get(n.output.name)
        else replace(n, outputs=(replace(n.output, eager=views[n.output.name]),))
        for n in graph.nodes
    ]
    return graph.with_nodes(nodes)


def _sink(r: Rewriter, node: Node) -> Edit:
    if isinstance(node.op, Permute):
        return _simplify_permute(r, node, node.op)
    if isinstance(node.op, Reshape):
        return (
            _simplify_reshape(r, node, node.op)
            or sink_permute_through_reshape(r, node)
            or raise_reshape(r, node)
        )
    reshaped = sink_reshape(r, node)
    if reshaped:
        return reshaped
    perm = _common_perm(r, node)
    moved = _under(node, perm) if perm else None
    if perm is None or moved is None:
        return None
    op, out_perm = moved
    inputs = tuple(_without_permute(r, v, perm, node) for v in node.inputs)
    inner = r.inner(op, inputs, node, from_eager(node.output.eager, inverse(out_perm)))
    return [inner, replaced(node, Permute(out_perm), (inner.output,))]


def _simplify_permute(r: Rewriter, node: Node, op: Permute) -> Edit:
    (x,) = node.inputs
    if op.perm == tuple(range(len(op.perm))):
        return x
    before = r.made_by(x)
    if before and isinstance(before.op, Permute):
        first = before.op.perm
        return [replaced(node, Permute(tuple(first[p] for p in op.perm)), before.inputs)]
    return None


def _drop_idle(r: Rewriter, node: Node) -> Edit:
    if isinstance(node.op, Reshape):
        return _simplify_reshape(r, node, node.op)
    whole = node.output.type == node.inputs[0].type
    if isinstance(node.op, Slice) and node.op.step > 0 and whole:
        return node.inputs[0]
    if not isinstance(node.op, Permute):
        return None
    dims = node.inputs[0].type.dims
    moved = [p for p in node.op.perm if dims[p] != 1]
    if moved != sorted(moved):
        return None
    return [replaced(node, Reshape(node.output.type.dims), node.inputs)]


def _simplify_reshape(r: Rewriter, node: Node, op: Reshape) -> Edit:
    (x,) = node.inputs
    if x.type == node.output.type:
        return x
    before = r.made_by(x)
    if before and isinstance(before.op, Reshape):
        return [replaced(node, op, before.inputs)]
    return None


def _common_perm(r: Rewriter, node: Node) -> Perm | None:
    """The permutation under which all images among the inputs are, if there is one."""
    perms = set()
    for v in node.inputs if isinstance(node.op, Pointwise | Concat) else node.inputs[:1]:
        before = r.made_by(v)
        if before and isinstance(before.op, Permute) and v.type.rank == len(before.op.perm):
            perms.add(before.op.perm)
        elif r.data(v) is None:
            return None
    (perm,) = perms if len(perms) == 1 else (None,)
    if perm and isinstance(node.op, Pointwise) and node.output.type.rank != len(perm):
        return None
    return perm


def _under(node: Node, perm: Perm) -> tuple[Op, Perm] | None:
    """The operator that does the same before the permute, and the permute of its output."""
    op = node.op
    if isinstance(op, Pointwise | Quantize | Dequantize):
        return op, perm
    if isinstance(op, AdaptivePool | BatchNorm | Concat | Resample | Slice | Softmax):
        return replace(op, axis=perm[op.axis]), perm
    if isinstance(op, GroupNorm):
        return (replace(op, axis=perm[op.axis]), perm) if perm[0] == 0 else None
    if isinstance(op, LayerNorm | RmsNorm):
        outer = len(perm) - node.inputs[1].type.rank
        return (op, perm) if perm[outer:] == tuple(range(outer, len(perm))) else None
    if isinstance(op, Expand):
        new = len(op.shape) - len(perm)
        out = (*range(new), *(new + p for p in perm))
        return Expand(tuple(op.shape[i] for i in inverse(out))), out
    if isinstance(op, Pad):
        back = inverse(perm)
        before, after = (tuple(s[i] for i in back) for s in (op.before, op.after))
        return Pad(before, after, op.value), perm
    if isinstance(op, Reduce):
        if op.row.startswith("arg") and len(op.axes) > 1:
            return None  # the place that it gives counts the elements in their order
        axes = tuple(sorted(perm[a] for a in op.axes))
        if op.keepdim:
            return replace(op, axes=axes), perm
        kept = [p for a, p in enumerate(perm) if a not in op.axes]
        return replace(op, axes=axes), tuple(sorted(kept).index(p) for p in kept)
    return None


def _without_permute(r: Rewriter, v: Value, perm: Perm, node: Node) -> Value:
    """The value as it is before the permute; constants of a broadcast are transposed."""
    before = r.made_by(v)
    if before:
        return before.inputs[0]
    data = r.data(v)
    if data is None or data.ndim == 0 or not isinstance(node.op, Pointwise | Concat):
        return v
    whole = (1,) * (len(perm) - data.ndim) + data.shape
    return r.moved(v, v.name, lambda a: a.reshape(whole).transpose(inverse(perm)))


def _absorb(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Conv2d | Conv2dMixed | Conv2dS8) or node.op.channels_first:
        return None
    before = r.made_by(node.inputs[0])
    depthwise = node.op.groups > 1 and node.op.groups == node.inputs[0].type.dims[3]
    if before and before.op == Permute((0, 2, 3, 1)) and not depthwise:
        op = replace(node.op, channels_first=True)
        return [replaced(node, op, (before.inputs[0], *node.inputs[1:]))]
    return None
