# SPDX-License-Identifier: Apache-2.0
"""Data movement around matrix products becomes strides of the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from emx.ir import Array, Graph, Node, Value
from emx.ops.movement import Movement, Permute, Reshape
from emx.passes.rewrite import Edit, Rewriter, inverse, replaced
from emx.view import Strided, View


def absorb_views(graph: Graph) -> Graph:
    """matmul(permute(x), slice(y)) => matmul of x and y by their strides; permute(matmul) =>
    matmul that writes by strides."""
    return Rewriter(graph).apply(_absorb)


def _absorb(r: Rewriter, node: Node) -> Edit:
    if isinstance(node.op, Permute):
        return _absorb_after(r, node)
    if not isinstance(node.op, Strided) or node.op.views:
        return None
    found = [_source(r, v) for v in node.inputs]
    views = tuple(view for _, view in found)
    if not any(views):
        return None
    return [replaced(node, replace(node.op, views=views), tuple(v for v, _ in found))]


def _source(r: Rewriter, v: Value) -> tuple[Value, View | None]:
    """The value before as many movements as are a view, and that view."""
    best: tuple[Value, View | None] = (v, None)
    moves: list[Callable[[Array], Array]] = []
    x = v
    while (made := r.made_by(x)) and isinstance(made.op, Movement | Reshape):
        moves.insert(0, made.op.reference)
        (x,) = made.inputs
        view = View.of(x.type.dims, *moves)
        if view and not isinstance(made.op, Reshape):
            best = (x, view)
    return best


def _absorb_after(r: Rewriter, node: Node) -> Edit:
    """Reshapes may stand between the product and the permute."""
    assert isinstance(node.op, Permute)
    back = inverse(node.op.perm)
    moves: list[Callable[[Array], Array]] = [lambda y: y.transpose(back)]
    (x,) = node.inputs
    made = r.made_by(x)
    while made and isinstance(made.op, Reshape) and r.only_use(x):
        (x,) = made.inputs
        made = r.made_by(x)
    if made is None or not isinstance(made.op, Strided) or made.op.out or not r.only_use(x):
        return None
    dims = x.type.dims
    moves.append(lambda y: y.reshape(dims))
    view = View.of(node.output.type.dims, *moves)
    if view is None:
        return None
    return [replaced(node, replace(made.op, out=(node.output.type.dims, view)), made.inputs)]
