# SPDX-License-Identifier: Apache-2.0
"""Float layers whose weights the model has as integers keep them so, and scale their sums."""

from __future__ import annotations

from math import inf, isfinite, prod

import numpy as np

from emx.ir import Array, Graph, Node, Value
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed, products
from emx.ops.linear import Linear
from emx.ops.movement import Reshape
from emx.passes.rewrite import Edit, Rewriter
from emx.pointwise import Pointwise
from emx.quant import Grid
from emx.scalars import Call
from emx.window import Window


def narrow_weights(graph: Graph) -> Graph:
    """conv2d or linear of dequantised weights => conv2d_mixed of int8 or 4-bit weights."""
    return Rewriter(graph).apply(_narrow)


def scales_of(grid: Grid) -> Array | None:
    """The scale of each output for as few segments of its products as there are scales in a row,
    float64 [segments][o]; None if that is none, or weights are no int8."""
    units = grid.units
    if units.size == 0 or units.min() < -128 or units.max() > 127:
        return None
    rows = products(np.broadcast_to(grid.scale, units.shape).astype(np.float64))
    size = rows.shape[1]
    for count in (n for n in range(1, size // 2 + 1) if size % n == 0):
        split = rows.reshape(len(rows), count, -1)
        if (split == split[..., :1]).all():
            return np.ascontiguousarray(split[..., 0].T)
    return rows.T if size == 1 else None


def _narrow(r: Rewriter, node: Node) -> Edit:
    op = node.op
    if not isinstance(op, Conv2d | Linear):
        return None
    x, w, b, *skip = node.inputs
    grid = r.graph.grids.get(w.name)
    scales = scales_of(grid) if grid else None
    if grid is None or scales is None:
        return None
    data = grid.units.astype(np.int8)
    bounds = (-inf, inf) if skip else (op.lo, op.hi)
    name = w.name.removesuffix(".permuted").removesuffix(".dequantised")
    m = r.constant(f"{name}.scales", scales.astype(np.float32))
    if isinstance(op, Conv2d):
        layer = Conv2dMixed(op.window, op.groups, None, None, *bounds, op.channels_first)
        weight = r.constant(f"{name}.folded", data)
        nodes = [r.inner(layer, (x, weight, b, m), node, None)]
    else:
        weight = r.constant(f"{name}.folded", data.reshape(*data.shape, 1, 1))
        nodes = _rows(r, node, Conv2dMixed(Window((1, 1)), 1, None, None, *bounds), (weight, b, m))
    return _added(r, node, nodes, skip)


def _rows(r: Rewriter, node: Node, layer: Conv2dMixed, parameters: tuple[Value, ...]) -> list[Node]:
    """A linear layer is a 1x1 convolution of one row of pixels."""
    (x, *_), y = node.inputs, node.output
    rows = prod(x.type.dims[:-1])
    image = r.inner(Reshape((1, 1, rows, x.type.dims[-1])), (x,), node, None)
    sums = r.inner(layer, (image.output, *parameters), node, None)
    return [image, sums, r.inner(Reshape(y.type.dims), (sums.output,), node, None)]


def _added(r: Rewriter, node: Node, nodes: list[Node], skip: list[Value]) -> list[Node]:
    """The last of `nodes`, with the residual and bounds of `node`, makes its output."""
    *before, last = nodes
    if not skip:
        return [*before, Node(last.op, last.inputs, node.outputs, node.origin)]
    assert isinstance(node.op, Conv2d | Linear)
    expr = Call("add", (0, 1))
    if isfinite(node.op.lo) or isfinite(node.op.hi):
        expr = Call("clamp", (expr, node.op.lo, node.op.hi))
    return [*nodes, Node(Pointwise(expr), (last.output, *skip), node.outputs, node.origin)]
