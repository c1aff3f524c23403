# SPDX-License-Identifier: Apache-2.0
"""Functions of one int8 value, whatever they are made of, as tables of 256 results."""

from __future__ import annotations

import numpy as np

from emx.ir import Array, DType, Unsupported, Value
from emx.ops.quantize import Dequantize
from emx.passes.rewrite import Rewriter
from emx.pointwise import Pointwise
from emx.quant import Quant


def function_of(r: Rewriter, v: Value, y: Quant) -> tuple[Value, Quant, Array]:
    """The int8 value that alone decides `v`, element by element, what it stands for, and the int8
    results [256] for -128 ... 127. Unsupported if there is no such value."""
    cone = _Cone(r, v.type.dims)
    data = cone.evaluated(v)
    if cone.leaf is None:
        raise Unsupported("it does not depend on quantised values", "quantise its input")
    return (*cone.leaf, y.quantise(np.broadcast_to(data, 256)))


class _Cone:
    """The pointwise operators that lead from one dequantised value to another, rounded to float32
    one by one like PyTorch's."""

    def __init__(self, r: Rewriter, dims: tuple[int, ...]) -> None:
        self.leaf: tuple[Value, Quant] | None = None
        self._r = r
        self._dims = dims
        self._known: dict[str, Array] = {}

    def evaluated(self, v: Value) -> Array:
        """The results for all 256 values; operators behind it come before it."""
        pending = [v]
        while pending:
            v = pending[-1]
            node = self._r.made_by(v)
            missing = [
                x
                for x in (node.inputs if node and isinstance(node.op, Pointwise) else ())
                if x.name not in self._known
            ]
            if missing:
                pending += missing
            else:
                self._known[pending.pop().name] = self._value(v)
        return self._known[v.name]

    def _value(self, v: Value) -> Array:
        data, node = self._r.data(v), self._r.made_by(v)
        if data is not None and data.size == 1:
            return data.reshape(()).astype(np.float64) if data.dtype == np.float32 else data
        if node and isinstance(node.op, Dequantize) and v.type.dims == self._dims:
            return self._of_leaf(node.inputs[0], node.op.q)
        if node is None or not isinstance(node.op, Pointwise):
            raise Unsupported("its input is not quantised", "quantise it")
        with np.errstate(all="ignore"):
            y = node.op.expr.evaluate(tuple(self._known[x.name] for x in node.inputs))
            return y.astype(np.float32).astype(np.float64) if v.type.dtype is DType.F32 else y

    def _of_leaf(self, x: Value, q: Quant) -> Array:
        if self.leaf not in (None, (x, q)) or q.dtype is not DType.S8:
            raise Unsupported("it is a function of several values", "quantise what is between")
        self.leaf = (x, q)
        return q.dequantise(np.arange(-128, 128)).astype(np.float64)
