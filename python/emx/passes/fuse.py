# SPDX-License-Identifier: Apache-2.0
"""Fusion: padding into the window, residual adds, clamps and pointwise chains into the producer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from emx.axis import Axis
from emx.ir import Graph, Node, Value
from emx.ops.conv2d import Conv2d
from emx.ops.conv3d import Conv3d
from emx.ops.linear import Linear
from emx.ops.movement import Pad, Permute
from emx.ops.pool2d import Pool2d
from emx.ops.quantize import Dequantize, Quantize
from emx.passes.rewrite import Edit, Rewriter, replaced
from emx.pointwise import Pointwise
from emx.scalars import Call
from emx.window import Window

Axes = tuple[Axis, Axis, Axis]

MAX_CALLS = 32  # of table rows in one expression: more gains nothing and is hard to read
CHEAP = frozenset(("add", "sub", "mul", "neg", "abs", "square", "maximum", "minimum", "clamp"))


def fuse_pad(graph: Graph) -> Graph:
    """A convolution of pad(x, 0) => one with a padded window."""
    return Rewriter(graph).apply(_fuse_pad)


def fuse_residual(graph: Graph) -> Graph:
    """add(convolution or linear, skip) => the layer, adding skip to its sum."""
    return Rewriter(graph).apply(_fuse_residual)


def fuse_clamp(graph: Graph) -> Graph:
    """clamp(convolution, linear or pool2d) => the layer with bounds."""
    return Rewriter(graph).apply(_fuse_clamp)


def fuse_pointwise(graph: Graph) -> Graph:
    """A chain of pointwise operators => one expression."""
    return Rewriter(graph).apply(_fuse_pointwise)


def _fuse_pad(r: Rewriter, node: Node) -> Edit:
    """The pad may stand before the permute that makes the image channels last."""
    if not isinstance(node.op, Conv2d | Conv3d):
        return None
    permute = pad = r.made_by(node.inputs[0])
    if permute and isinstance(permute.op, Permute):
        pad = r.made_by(permute.inputs[0])
    if pad is None or not isinstance(pad.op, Pad) or pad.op.value != 0:
        return None
    axes = permute.op.perm if permute and isinstance(permute.op, Permute) else None
    sides = sides_of(pad.op, axes)
    if sides is None or len(sides) != node.inputs[0].type.rank - 2:
        return None
    op = _padded(node.op, sides)
    if permute is None or permute is pad:
        return [replaced(node, op, (pad.inputs[0], *node.inputs[1:]))]
    image = r.inner(permute.op, pad.inputs, permute, None)
    return [image, replaced(node, op, (image.output, *node.inputs[1:]))]


def sides_of(pad: Pad, perm: tuple[int, ...] | None) -> list[tuple[int, int]] | None:
    """What a pad adds before and after each axis of an image but the first and the last, after
    `perm`; None if it pads those, or cuts off."""
    sides = list(zip(pad.before, pad.after, strict=True))
    sides = [sides[a] for a in perm] if perm else sides
    outer = sides[:1] != [(0, 0)] or sides[-1:] != [(0, 0)]
    return None if outer or min(map(min, sides)) < 0 else sides[1:-1]


def padded(window: Window, sides: list[tuple[int, int]]) -> Window:
    """The window over an image with (top, bottom), (left, right) around it."""
    (top, bottom), (left, right) = sides
    total = [a + b for a, b in zip(window.pad, (top, bottom, left, right), strict=True)]
    return replace(window, pad=(total[0], total[1], total[2], total[3]))


def padded_axes(axes: Axes, sides: list[tuple[int, int]]) -> Axes:
    """The axes of a window over a volume with something around it before its own padding."""
    d, h, w = (
        replace(a, pad=(a.pad[0] + lo * a.spread, a.pad[1] + hi * a.spread))
        for a, (lo, hi) in zip(axes, sides, strict=True)
    )
    return d, h, w


def _padded(op: Conv2d | Conv3d, sides: list[tuple[int, int]]) -> Conv2d | Conv3d:
    """The operator with zeros around x before its own padding."""
    if isinstance(op, Conv2d):
        return replace(op, window=padded(op.window, sides))
    return replace(op, axes=padded_axes(op.axes, sides))


def _fuse_residual(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Pointwise) or node.op.expr != Call("add", (0, 1)):
        return None
    layers = [r.made_by(v) if _takes_residual(r, v, node) else None for v in node.inputs]
    # Of two layers the later one adds, so that the other's output lives no longer than it must.
    found = [(r.position(n), i, n) for i, n in enumerate(layers) if n]
    if not found:
        return None
    _, at, layer = max(found, key=lambda f: f[:2])
    assert isinstance(layer.op, Conv2d | Conv3d | Linear)
    skip = node.inputs[1 - at]
    return [replaced(node, replace(layer.op, residual=True), (*layer.inputs, skip))]


def _takes_residual(r: Rewriter, v: Value, add: Node) -> bool:
    n = r.made_by(v)
    if n is None or not isinstance(n.op, Conv2d | Conv3d | Linear) or not r.only_use(v):
        return False
    if any(other.type != add.output.type or r.data(other) is not None for other in add.inputs):
        return False
    depthwise = isinstance(n.op, Conv2d) and 1 < n.op.groups == n.output.type.dims[-1]
    return (n.op.lo, n.op.hi) == (-inf, inf) and not n.op.residual and not depthwise


def _fuse_clamp(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Pointwise) or node.op.expr.row != "clamp":
        return None
    x, lo, hi = node.op.expr.args
    layer = r.made_by(node.inputs[0])
    if x != 0 or isinstance(lo, Call | int) or isinstance(hi, Call | int) or layer is None:
        return None
    if not isinstance(layer.op, Conv2d | Conv3d | Linear | Pool2d) or not r.only_use(layer.output):
        return None
    if (layer.op.lo, layer.op.hi) != (-inf, inf):
        return None
    return [replaced(node, replace(layer.op, lo=lo, hi=hi), layer.inputs)]


def _fuse_pointwise(r: Rewriter, node: Node) -> Edit:
    outer = _expression(node)
    if outer is None:
        return None
    for k, v in enumerate(node.inputs):
        first = r.made_by(v)
        inner = _expression(first) if first and r.only_use(v) else None
        if first is None or inner is None or v.type.dims != node.output.type.dims:
            continue
        if v.type != node.output.type and not isinstance(node.op, Quantize):
            continue
        inputs = list(dict.fromkeys([*first.inputs, *(x for x in node.inputs if x != v)]))
        if len(inputs) <= Pointwise.MAX_INPUTS and _fits(outer, k, inner):
            expr = outer.map_operands(_inlined(node, k, first, inner, inputs))
            return [replaced(node, Pointwise(expr), tuple(inputs))]
    return None


def _expression(node: Node) -> Call | None:
    """Of an operator that has one."""
    if isinstance(node.op, Quantize | Dequantize):
        return node.op.pointwise.expr
    return node.op.expr if isinstance(node.op, Pointwise) else None


def _fits(outer: Call, k: int, inner: Call) -> bool:
    """Whether `outer` with operand k replaced stays short, and computes nothing dear twice."""
    repeats = _reads(outer, k)
    if repeats > 1 and not _is_cheap(inner):
        return False
    return _calls(outer) + repeats * _calls(inner) <= MAX_CALLS


def _reads(expr: Call, k: int) -> int:
    """How often `expr` reads operand k."""
    return sum(
        _reads(a, k) if isinstance(a, Call) else isinstance(a, int) and a == k for a in expr.args
    )


def _is_cheap(expr: Call) -> bool:
    return expr.row in CHEAP and all(_is_cheap(a) for a in expr.args if isinstance(a, Call))


def _calls(expr: Call) -> int:
    return 1 + sum(_calls(a) for a in expr.args if isinstance(a, Call))


def _inlined(
    node: Node, k: int, first: Node, inner: Call, inputs: list[Value]
) -> Callable[[int], Call | int | float]:
    """What becomes of the operands of `node` over the new operand list: number k is `inner`."""
    own = inner.map_operands(lambda i: inputs.index(first.inputs[i]))
    return lambda i: own if node.inputs[i] == node.inputs[k] else inputs.index(node.inputs[i])
