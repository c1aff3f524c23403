# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers keep only the rows of their output that are read."""

from __future__ import annotations

from dataclasses import replace

from emx.ir import Graph, Node
from emx.ops.concat import Concat
from emx.ops.movement import Pad, Slice
from emx.ops.rnn import Recurrent
from emx.ops.rnn_s8 import RecurrentS8
from emx.passes.rewrite import Edit, Rewriter, replaced


def trim_recurrent(graph: Graph) -> Graph:
    """slice(rnn) => rnn without the cell state, or with the last step only; h_n, of which often
    only the last layer's part is read, is taken apart before."""
    for rule in (_slice_of_part, _without_cell, _trim):
        graph = Rewriter(graph).apply(rule)
    return graph


def _slice_of_part(r: Rewriter, node: Node) -> Edit:
    """slice(concat(...)) => slice of the part in which it lies."""
    joined = r.made_by(node.inputs[0]) if isinstance(node.op, Slice) else None
    if joined is None or not isinstance(joined.op, Concat) or not isinstance(node.op, Slice):
        return None
    if node.op.axis != joined.op.axis or node.op.step != 1:
        return None
    at = 0
    for part in joined.inputs:
        first, extent = node.op.start - at, part.type.dims[node.op.axis]
        if first >= 0 and first + node.op.count <= extent:
            whole = part.type == node.output.type
            return part if whole else [replaced(node, replace(node.op, start=first), (part,))]
        at += extent
    return None


def _without_cell(r: Rewriter, node: Node) -> Edit:
    """A row of nothing takes the place of a cell state that no slice has; slices find what they
    read behind it."""
    op = node.op
    if isinstance(op, Recurrent) and op.cell:
        readers = r.readers(node.output)
        if readers and all(isinstance(s, Slice) and s.axis == 0 < s.start for s in readers):
            rows = r.inner(replace(op, cell=False), node.inputs, node, None)
            return [rows, replaced(node, Pad((1, 0, 0), (0, 0, 0)), (rows.output,))]
    if not isinstance(op, Slice) or op.axis != 0 or op.start < 1:
        return None
    made = r.made_by(node.inputs[0])
    if made is None or made.op != Pad((1, 0, 0), (0, 0, 0)):
        return None
    (x,) = made.inputs
    whole = (op.start, op.count, op.step) == (1, x.type.dims[0], 1)
    return x if whole else [replaced(node, replace(op, start=op.start - 1), (x,))]


def _trim(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Slice) or node.op.axis != 0:
        return None
    layer = r.made_by(node.inputs[0])
    if layer is None or not r.only_use(layer.output):
        return None
    op, rows = layer.op, layer.output.type.dims[0]
    one_way = isinstance(op, Recurrent | RecurrentS8) and layer.inputs[1].type.dims[0] == 1
    if not one_way or getattr(op, "cell", False) or (node.op.start, node.op.count) != (rows - 1, 1):
        return None
    return [replaced(node, replace(op, last=True), layer.inputs)]  # type: ignore[type-var]
