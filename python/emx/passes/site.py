# SPDX-License-Identifier: Apache-2.0
"""The place of a float operator between dequantise and quantise, where integers are to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from emx.ir import Node, Op, Unsupported, Value
from emx.ops.quantize import Dequantize
from emx.passes.rewrite import Rewriter
from emx.pointwise import Pointwise
from emx.quant import Quant


@dataclass(frozen=True)
class Site:
    """`node`, a float operator whose result is read as integers only, among them `quantize`."""

    r: Rewriter
    node: Node
    quantize: Node
    y: Quant

    def last(self, op: Op, *inputs: Value) -> Node:
        """What makes the integers."""
        return Node(op, inputs, self.quantize.outputs, self.node.origin)

    def inner(self, op: Op, *inputs: Value) -> Node:
        return self.r.inner(op, inputs, self.node, None)

    def is_quantised(self, v: Value) -> bool:
        try:
            self.quantised(v)
        except Unsupported:
            return False
        return True

    def quantised(self, v: Value) -> tuple[Value, Quant]:
        """The integers whose dequantised form, or a multiple of it, an operand is."""
        made, scale = self.r.made_by(v), 1.0
        while made and (factor := factor_of(made)):
            scale *= factor
            made = self.r.made_by(made.inputs[0])
        if made is None and v.name in self.r.constants:
            return self._constant(v)
        if made is None or not isinstance(made.op, Dequantize):
            raise Unsupported("its input is not quantised", "quantise it")
        q = made.op.q
        if q.dtype is not self.y.dtype:
            hint = f"quantise it to {self.y.dtype.value}"
            raise Unsupported(f"its input is quantised to {q.dtype.value}", hint)
        return made.inputs[0], q if scale == 1 else replace(q, scale=q.scale * scale)

    def _constant(self, v: Value) -> tuple[Value, Quant]:
        """Of a parameter that is quantised as a whole."""
        grid = self.r.grids.get(v.name)
        if grid is None or grid.scale.size != 1:
            raise Unsupported("its parameter is not quantised", "quantise it as a whole")
        least, most = (int(f(grid.units, initial=0)) for f in (np.min, np.max))
        zero = 0 if least >= -128 and most <= 127 else -128 - least
        if most + zero > 127:
            raise Unsupported("its parameter does not fit int8", "quantise it to int8")
        name = v.name.removesuffix(".dequantised")
        units = (grid.units + zero).astype(np.int8)
        return self.r.constant(f"{name}.folded", units), Quant(grid.scale.item(), zero)


def factor_of(node: Node) -> float | None:
    """c, positive and finite, if the node is x * c, or x / (1 / c)."""
    if not isinstance(node.op, Pointwise) or len(node.op.expr.args) != 2:
        return None
    row, (x, c) = node.op.expr.row, node.op.expr.args
    if row not in ("mul", "div") or x != 0 or not isinstance(c, float) or not 0 < c < inf:
        return None
    return c if row == "mul" else 1 / c
