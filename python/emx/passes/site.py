# SPDX-License-Identifier: Apache-2.0
"""The place of a float operator between dequantise and quantise, where integers are to be."""

from __future__ import annotations

from dataclasses import dataclass

from emx.ir import Node, Op, Unsupported, Value
from emx.ops.quantize import Dequantize
from emx.passes.rewrite import Rewriter
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

    def quantised(self, v: Value) -> tuple[Value, Quant]:
        """The int8 value whose dequantised form an operand is."""
        made = self.r.made_by(v)
        if made is None or not isinstance(made.op, Dequantize):
            raise Unsupported("its input is not quantised", "quantise it")
        if made.op.q.dtype is not self.y.dtype:
            name = made.op.q.dtype.value
            raise Unsupported(
                f"its input is quantised to {name}", f"quantise it to {self.y.dtype.value}"
            )
        return made.inputs[0], made.op.q
