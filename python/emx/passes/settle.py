# SPDX-License-Identifier: Apache-2.0
"""Quantisation settles at the operators that compute: what only moves data moves integers.

Converted models quantise and dequantise around each operator that their quantizer knew, and leave
floats between the others. Here dequantising sinks below data movement and quantising rises above
it, which is exact, as both treat every element for itself.
"""

from __future__ import annotations

from dataclasses import replace
from math import isinf

import numpy as np

from emx.ir import Array, DType, Eager, Graph, Node, Op, Value
from emx.ops.concat import Concat
from emx.ops.gather import Gather, TakeAlong
from emx.ops.movement import Movement, Pad, Permute, Reshape
from emx.ops.pool2d import Pool2d
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.reduce import Reduce
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.resample import Resample
from emx.passes.rewrite import Edit, Rewriter, from_eager, inverse, replaced
from emx.pointwise import Pointwise
from emx.quant import Quant
from emx.scalars import Call

# Of int8 x: the uint8 with the same meaning, whose zero point is 128 more; and back.
_TO_U8 = Pointwise(Call("u8", (Call("add", (Call("s32", (0,)), 128.0)),)))
_TO_S8 = Pointwise(Call("s8", (Call("sub", (Call("s32", (0,)), 128.0)),)))

_BOTH = (Call("maximum", (0, 1)), Call("minimum", (0, 1)))
_CHOICE = Call("where", (0, 1, 2))


def sign_integers(graph: Graph) -> Graph:
    """uint8 => int8, 128 less; where the model itself has uint8 it is converted."""
    return Rewriter(graph).apply(_sign)


def settle_quantisation(graph: Graph) -> Graph:
    """move(dequantise(x)) => dequantise(move(x)); quantise(move(x)) => move(quantise(x));
    quantise(clamp(x)) => quantise(x) with bounds; quantise(dequantise(x)) => x."""
    return Rewriter(graph).apply(_Settling())


def same_grid(a: Quant, b: Quant) -> bool:
    """Whether integers stand for the same numbers."""
    return (a.scale, a.zero, a.dtype) == (b.scale, b.zero, b.dtype)


def narrowed(q: Quant, lo: float, hi: float) -> Quant:
    """`q` of clamp(x, lo, hi) is the result of x: rounding is monotonic."""
    least, most = (int(i) for i in q.quantise(np.array([lo, hi])))
    return replace(q, lo=least, hi=most)


def _sign(r: Rewriter, node: Node) -> Edit:
    op = node.op
    if op == _TO_S8:
        made = r.made_by(node.inputs[0])
        return made.inputs[0] if made and made.op == _TO_U8 else None
    if not isinstance(op, Quantize | Dequantize) or op.q.dtype is not DType.U8:
        return None
    q = replace(op.q, zero=op.q.zero - 128, dtype=DType.S8, lo=op.q.lo - 128, hi=op.q.hi - 128)
    if isinstance(op, Quantize):
        inner = r.inner(Quantize(q), node.inputs, node, node.output.eager)
        return [inner, replaced(node, _TO_U8, (inner.output,))]
    inner = r.inner(_TO_S8, node.inputs, node, None)
    return [inner, replaced(node, Dequantize(q), (inner.output,))]


class _Settling:
    """The rule of settle_quantisation(); what is quantised, or dequantised, twice alike is so
    once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Op, str], Value] = {}

    def __call__(self, r: Rewriter, node: Node) -> Edit:
        if not isinstance(node.op, Quantize | Dequantize):
            return _sink(r, node)
        key = node.op, node.inputs[0].name
        first = self._seen.get(key)
        if first and first != node.output and r.made_by(first):
            return first
        self._seen[key] = node.output
        return _rise(r, node, node.op.q) if isinstance(node.op, Quantize) else None


def _rise(r: Rewriter, node: Node, q: Quant) -> Edit:
    (x,) = node.inputs
    data, made = r.data(x), r.made_by(x)
    if data is not None:
        return r.constant(x.name, q.quantise(data))
    if made is None:
        return None
    if isinstance(made.op, Dequantize):
        source = made.op.q
        idle = same_grid(source, q) and q.lo <= source.lo and source.hi <= q.hi
        return made.inputs[0] if idle else None
    if not r.all_read(x, Quantize):
        return None
    if _is_clamp(made):
        _, lo, hi = made.op.expr.args  # type: ignore[attr-defined]
        return [replaced(node, Quantize(narrowed(q, lo, hi)), made.inputs)]
    moved, op = _moved(made), _of_integers(made, q)
    if op is None or (isinstance(made.op, Pointwise) and not _differ(r, made)):
        return None
    eager = _eager_before(node, made)
    inner = {i: r.inner(Quantize(q), (made.inputs[i],), node, eager) for i in moved}
    inputs = tuple(inner[i].output if i in inner else v for i, v in enumerate(made.inputs))
    return [*inner.values(), Node(op, inputs, node.outputs, made.origin)]


def _picks(node: Node) -> Call | None:
    """The call, if it picks elements of tensors; 1.0, a number, equals the operand 1."""
    assert isinstance(node.op, Pointwise)
    expr = node.op.expr
    return expr if expr in (*_BOTH, _CHOICE) and len(node.inputs) == len(expr.args) else None


def _eager_before(node: Node, made: Node) -> Eager | None:
    """PyTorch's tensor, which is that of `node`, as it lies before `made` moved it. What a reshape
    leaves of it has another rank, so that no permute is mistaken for one of its axes."""
    eager, (x, *_) = node.output.eager, made.inputs
    if isinstance(made.op, Permute):
        return from_eager(eager, inverse(made.op.perm))
    reshaped = isinstance(made.op, Reshape) and eager and len(eager.perm) != x.type.rank
    return eager if reshaped else None


def _sink(r: Rewriter, node: Node) -> Edit:
    moved = _moved(node)
    sources = [_dequantised(r, node.inputs[i]) for i in moved]
    q = next((s[1] for s in sources if s), None)
    if q is None:
        return None
    op = _of_integers(node, q) if _is_exact(node.op, q) else None
    if op is None:
        return None
    inputs = list(node.inputs)
    for i, source in zip(moved, sources, strict=True):
        found = source[0] if source and same_grid(source[1], q) else _on_grid(r, inputs[i], q)
        if found is None:
            return None
        inputs[i] = found
    inner = r.inner(op, tuple(inputs), node, None)
    return [inner, replaced(node, Dequantize(q), (inner.output,))]


def _differ(r: Rewriter, node: Node) -> bool:
    """Whether the operands are dequantised from two values; a function of one is a table."""
    sources = [_dequantised(r, v) for v in node.inputs]
    return all(sources) and len({s[0].name for s in sources if s}) == 2


def _dequantised(r: Rewriter, v: Value) -> tuple[Value, Quant] | None:
    made = r.made_by(v)
    return (made.inputs[0], made.op.q) if made and isinstance(made.op, Dequantize) else None


def _on_grid(r: Rewriter, v: Value, q: Quant) -> Value | None:
    """A constant of numbers that integers stand for exactly, as those."""
    data = r.data(v)
    if data is None or not _represents(q, data):
        return None
    return r.constant(v.name, q.quantise(data))


def _represents(q: Quant, data: Array) -> bool:
    return np.array_equal(q.dequantise(q.quantise(data)), data.astype(np.float32))


def _moved(node: Node) -> range:
    """The operands whose elements become the output's."""
    if isinstance(node.op, Concat):
        return range(len(node.inputs))
    if isinstance(node.op, Pointwise):
        return range(1, 3) if _picks(node) == _CHOICE else range(len(node.inputs))
    return range(1)


def _is_exact(op: Op, q: Quant) -> bool:
    """Whether what `op` puts in itself is something that integers stand for."""
    if isinstance(op, Pad):
        return _represents(q, np.array(op.value))
    if isinstance(op, Pool2d):
        return all(isinf(b) or _represents(q, np.array(b)) for b in (op.lo, op.hi))
    return True


def _of_integers(node: Node, q: Quant) -> Op | None:
    """What an operator that moves or picks elements is on integers; None for others."""
    op = node.op
    if isinstance(op, Resample):
        return op if len(node.inputs) == 2 else None
    if isinstance(op, Pad):
        return replace(op, value=float(q.quantise(np.array(op.value))))
    if isinstance(op, Pool2d) and not op.mean and q.dtype is DType.S8:
        y = narrowed(q, op.lo, op.hi)
        return Pool2dS8(op.window, False, q, q, y.lo, y.hi)
    if isinstance(op, Reduce) and op.row in ("amax", "amin"):
        return ReduceS8(op.row, op.axes, op.keepdim, q, q) if q.dtype is DType.S8 else op
    if isinstance(op, Pointwise):
        return op if _picks(node) else None
    return op if isinstance(op, Movement | Reshape | Concat | Gather | TakeAlong) else None


def _is_clamp(node: Node) -> bool:
    if not isinstance(node.op, Pointwise) or node.op.expr.row != "clamp":
        return False
    x, lo, hi = node.op.expr.args
    return type(x) is int and type(lo) is float and type(hi) is float
