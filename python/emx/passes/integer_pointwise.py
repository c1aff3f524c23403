# SPDX-License-Identifier: Apache-2.0
"""Pointwise operators on int8: sums and products of two tensors, functions of one, and what scales
and shifts each channel."""

from __future__ import annotations

import numpy as np

from emx.ir import Array, Node, Unsupported, Value
from emx.ops.binary_s8 import BinaryS8
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.movement import Permute, Reshape
from emx.ops.quantize import Dequantize
from emx.ops.table_s8 import TableS8
from emx.passes.integer_tables import function_of
from emx.passes.integer_weights import weighted
from emx.passes.rewrite import Rewriter, inverse
from emx.passes.site import Site, factor_of
from emx.pointwise import Pointwise
from emx.quant import Quant
from emx.scalars import Call
from emx.window import Window

_BINARY = {Call(row, (0, 1)): row for row in ("add", "sub", "mul")}
_Form = tuple[Array, Array]  # a and b of a * x + b


def pointwise(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Pointwise)
    both = len(s.node.inputs) == 2  # 1.0, a number, equals the operand 1
    if both and op.expr in _BINARY and all(map(s.is_quantised, s.node.inputs)):
        (a, qa), (b, qb) = (s.quantised(v) for v in s.node.inputs)
        return [s.last(BinaryS8(_BINARY[op.expr], qa, qb, s.y, s.y.lo, s.y.hi), a, b)]
    try:
        return table(s)
    except Unsupported:
        form = _Line(s).form(s.quantize.inputs[0])
        if form is None:
            raise
        return _by_channels(s, *form)


def table(s: Site) -> list[Node]:
    (v,) = s.quantize.inputs
    x, q, results = function_of(s.r, v, s.y)
    entries = s.r.constant(f"{s.quantize.output.name}.table", results)
    return [s.last(TableS8(q, s.y), x, entries)]


def in_other_steps(r: Rewriter, node: Node, y: Quant) -> tuple[Node, Quant]:
    """A layer times a number, of which the quantised form is asked for, is the layer in other
    steps."""
    layer, scale = node, y.scale
    while (factor := factor_of(layer)) and r.only_use(layer.inputs[0]):
        before = r.made_by(layer.inputs[0])
        if before is None:
            return node, y
        layer, scale = before, scale / factor
    computed = isinstance(layer.op, Pointwise | Dequantize)
    return (node, y) if computed else (layer, Quant(scale, y.zero, y.dtype, y.lo, y.hi))


class _Line:
    """What a * x + b of one dequantised x is, with numbers a and b for each channel."""

    def __init__(self, s: Site) -> None:
        self._s = s
        self._leaf: Value | None = None

    def form(self, v: Value) -> tuple[Value, int, Array, Array] | None:
        """(x, axis, a, b), a and b [channels] along the axis."""
        found = self._of(v)
        if found is None or self._leaf is None or self._leaf.type.dims != v.type.dims:
            return None
        dims = v.type.dims
        both = np.broadcast_arrays(*found)
        shape = (1,) * (len(dims) - both[0].ndim) + both[0].shape
        axes = [i for i, n in enumerate(shape) if n > 1] or [len(dims) - 1]
        if len(axes) > 1:
            return None
        a, b = (np.broadcast_to(p.reshape(-1), dims[axes[0]]) for p in both)
        return self._leaf, axes[0], a, b

    def _of(self, v: Value) -> _Form | None:
        data, node = self._s.r.data(v), self._s.r.made_by(v)
        if data is not None:
            return np.zeros(()), data.astype(np.float64)
        if node and isinstance(node.op, Pointwise):
            return self._of_call(node.op.expr, node)
        if not self._s.is_quantised(v) or self._leaf not in (None, v):
            return None
        self._leaf = v
        return np.ones(()), np.zeros(())

    def _of_call(self, expr: Call, node: Node) -> _Form | None:
        found = [
            self._of_call(x, node) if isinstance(x, Call)
            else self._of(node.inputs[x]) if isinstance(x, int)
            else (np.zeros(()), np.array(x))
            for x in expr.args
        ]  # fmt: skip
        forms = [f for f in found if f is not None]
        if len(forms) < len(found):
            return None
        if expr.row == "neg":
            return -forms[0][0], -forms[0][1]
        return _combined(expr.row, *forms) if len(forms) == 2 else None


def _combined(row: str, first: _Form, second: _Form) -> _Form | None:
    (a, b), (c, d) = first, second
    if row in ("add", "sub"):
        sign = 1 if row == "add" else -1
        return a + sign * c, b + sign * d
    if row == "mul" and not a.any():
        return b * c, b * d
    if row in ("mul", "div") and not c.any():
        d = d if row == "mul" else 1 / d
        return a * d, b * d
    return None


def _by_channels(s: Site, x: Value, axis: int, a: Array, b: Array) -> list[Node]:
    """A depthwise convolution of 1x1, with the channels last."""
    image, q = s.quantised(x)
    name, dims = s.quantize.output.name, x.type.dims
    w = s.r.constant(f"{name}.scale", a.astype(np.float32).reshape(-1, 1, 1, 1))
    bias = s.r.constant(f"{name}.shift", b.astype(np.float32))
    layer = Conv2dS8(Window((1, 1)), len(a), q, s.y, s.y.lo, s.y.hi)
    perm = (*(i for i in range(len(dims)) if i != axis), axis)
    last = s.inner(Permute(perm), image)
    row = s.inner(Reshape((1, 1, x.type.size // len(a), len(a))), last.output)
    sums = s.inner(layer, row.output, *weighted(s.r, w, bias, q, s.y))
    back = s.inner(Reshape(last.output.type.dims), sums.output)
    return [last, row, sums, back, s.last(Permute(inverse(perm)), back.output)]
