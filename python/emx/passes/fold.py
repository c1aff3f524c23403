# SPDX-License-Identifier: Apache-2.0
"""Folding into weights, computed in float64 and rounded once."""

from __future__ import annotations

from math import prod

import numpy as np

from emx.ir import Array, Graph, Node, Value
from emx.ops.batch_norm import BatchNorm
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.ops.conv3d import Conv3d
from emx.ops.linear import Linear
from emx.ops.linear_s8 import LinearS8
from emx.ops.movement import Permute, Reshape
from emx.passes.rewrite import Edit, Rewriter, inverse, replaced
from emx.pointwise import Pointwise
from emx.scalars import Call
from emx.window import Window


def fold_batch_norm(graph: Graph) -> Graph:
    """batch_norm(convolution or linear) => the layer with scaled weights."""
    return Rewriter(graph).apply(_fold_batch_norm)


def expand_batch_norm(graph: Graph) -> Graph:
    """batch_norm after anything else => x * scale + shift."""
    return Rewriter(graph).apply(_expand_batch_norm)


def fold_permute_into_linear(graph: Graph) -> Graph:
    """linear(flatten(permute(x))) => linear with reordered columns of flatten(x)."""
    return Rewriter(graph).apply(_fold_permute)


def _constants(r: Rewriter, values: tuple[Value, ...]) -> list[Array]:
    return [r.constants[v.name] for v in values]


def _fold_batch_norm(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, BatchNorm):
        return None
    layer = r.made_by(node.inputs[0])
    if (
        layer is None
        or not isinstance(layer.op, Conv2d | Conv3d | Linear)
        or not _is_plain(layer.op)
    ):
        return None
    if node.op.axis != layer.output.type.rank - 1 or not r.only_use(layer.output):
        return None
    x, w, b = layer.inputs
    scale, shift = node.op.scale_shift(*_constants(r, node.inputs[1:]))
    weight, bias = _constants(r, (w, b))
    scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    inputs = (
        x,
        r.constant(f"{w.name}.folded", scaled.astype(weight.dtype)),
        r.constant(f"{b.name}.folded", (bias * scale + shift).astype(bias.dtype)),
    )
    return [replaced(node, layer.op, inputs)]


def _is_plain(op: Conv2d | Conv3d | Linear) -> bool:
    """True while nothing is fused behind the layer's sum."""
    return op.lo == -np.inf and op.hi == np.inf and not op.residual


def _expand_batch_norm(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, BatchNorm):
        return None
    x, weight = node.inputs[:2]
    shape = [-1 if i == node.op.axis else 1 for i in range(x.type.rank)]
    parts = node.op.scale_shift(*_constants(r, node.inputs[1:]))
    scale, shift = (
        r.constant(f"{weight.name}.{label}", part.astype(np.float32).reshape(shape))
        for label, part in zip(("scale", "shift"), parts, strict=True)
    )
    return [replaced(node, Pointwise(Call("add", (Call("mul", (0, 1)), 2))), (x, scale, shift))]


def _fold_permute(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Linear | LinearS8 | Conv2dMixed):
        return None
    flat = r.made_by(node.inputs[0])
    if flat is None or not isinstance(flat.op, Reshape) or not _mixes_all(r, node):
        return None
    permute = r.made_by(flat.inputs[0])
    if permute is None or not isinstance(permute.op, Permute) or permute.op.perm[0] != 0:
        return None
    dims = permute.output.type.dims
    if flat.output.type.dims[-2:] != (dims[0], prod(dims[1:])):
        return None
    back = inverse(permute.op.perm)
    (v,) = node.inputs[1:2]

    def permuted(a: Array) -> Array:
        return a.reshape(-1, *dims[1:]).transpose(back).reshape(a.shape)

    w = r.moved(v, f"{v.name}.permuted", permuted)
    x = r.inner(flat.op, permute.inputs, flat, None)
    return [x, replaced(node, node.op, (x.output, w, *node.inputs[2:]))]


def _mixes_all(r: Rewriter, node: Node) -> bool:
    """Whether the layer reads rows of features whose order does not matter."""
    if not isinstance(node.op, Conv2dMixed):
        return node.inputs[0].type.rank == 2
    one = node.op.window == Window((1, 1)) and node.op.groups == 1
    return (
        one
        and node.inputs[0].type.dims[:2] == (1, 1)
        and len(r.constants[node.inputs[3].name]) == 1
    )
