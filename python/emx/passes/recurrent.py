# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers keep only the rows of their output that are read."""

from __future__ import annotations

from dataclasses import replace

from emx.ir import Graph, Node
from emx.ops.concat import Concat
from emx.ops.movement import Slice
from emx.ops.rnn import Recurrent
from emx.passes.rewrite import Edit, Rewriter, replaced


def trim_recurrent(graph: Graph) -> Graph:
    """slice(rnn) => rnn without the cell state, or with the last step only; h_n, of which often
    only the last layer's part is read, is taken apart before."""
    return Rewriter(Rewriter(graph).apply(_slice_of_part)).apply(_trim)


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


def _trim(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Slice) or node.op.axis != 0:
        return None
    layer = r.made_by(node.inputs[0])
    if layer is None or not isinstance(layer.op, Recurrent) or not r.only_use(layer.output):
        return None
    rows, op = layer.output.type.dims[0], layer.op
    first, count = node.op.start, node.op.count
    if op.cell and (first, count) == (1, rows - 1):
        return [replaced(node, replace(op, cell=False), layer.inputs)]
    one_way = layer.inputs[1].type.dims[0] == 1
    if one_way and not op.cell and (first, count) == (rows - 1, 1):
        return [replaced(node, replace(op, last=True), layer.inputs)]
    return None
