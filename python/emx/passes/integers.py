# SPDX-License-Identifier: Apache-2.0
"""quantise(op(dequantise(x))) => op on int8. What cannot be so stays float, for a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from emx.ir import DType, Graph, Node, Op, Unsupported
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.conv3d import Conv3d
from emx.ops.conv3d_s8 import Conv3dS8
from emx.ops.layer_norm import LayerNorm
from emx.ops.layer_norm_s8 import LayerNormS8, norm_parameters
from emx.ops.linear import Linear
from emx.ops.linear_s8 import LinearS8
from emx.ops.matmul import MatMul
from emx.ops.matmul_s8 import MatMulS8
from emx.ops.movement import Reshape
from emx.ops.pool2d import Pool2d
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.reduce import Reduce
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.rms_norm import RmsNorm
from emx.ops.rnn import Recurrent
from emx.ops.softmax import Softmax
from emx.ops.softmax_s8 import SoftmaxS8, powers_of
from emx.passes.integer_mixed import is_mixed, mixed_conv2d, mixed_linear
from emx.passes.integer_pointwise import in_other_steps, pointwise, table
from emx.passes.integer_rnn import recurrent
from emx.passes.integer_weights import weighted
from emx.passes.rewrite import Edit, Rewriter
from emx.passes.settle import narrowed
from emx.passes.site import Site
from emx.pointwise import Pointwise
from emx.quant import Quant
from emx.target import find_target
from emx.window import Window


def to_integers(graph: Graph) -> Graph:
    """Operators between dequantise and quantise => operators on int8; for each quantise one."""
    return Rewriter(graph).apply(_rule)


def why_float(graph: Graph) -> dict[str, Unsupported]:
    """Of each quantise that stays, why what it quantises is computed in float."""
    r = Rewriter(graph)
    reasons: dict[str, Unsupported] = {}
    for node in graph.nodes:
        if isinstance(node.op, Quantize):
            try:
                _integer(r, node)
            except Unsupported as reason:
                reasons[node.inputs[0].name] = reason
    return reasons


def _rule(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Quantize):
        return None
    try:
        return _integer(r, node)
    except Unsupported:
        return None


def _integer(r: Rewriter, node: Node) -> list[Node]:
    """The nodes that make the integers of a quantise; Unsupported with the reason if none can."""
    assert isinstance(node.op, Quantize)
    (x,), y = node.inputs, node.op.q
    made = r.made_by(x)
    if made is None:
        raise Unsupported("it is an input of the model", "run with int8 inputs: --io int8")
    if y.dtype is not DType.S8 and (y.dtype is not DType.S16 or type(made.op) not in _WIDE):
        raise Unsupported(
            f"emx has no {made.op.name} whose result is {y.dtype.value}", "quantise it to int8"
        )
    if not isinstance(made.op, Dequantize) and not r.all_read(x, Quantize):
        raise Unsupported(
            "its result is also read as it is before it is quantised",
            "quantise it once, for all that read it",
        )
    made, y = in_other_steps(r, made, y)
    convert = _CONVERTERS.get(type(made.op))
    if convert is None:
        raise Unsupported(f"emx has no int8 form of {made.op.name}", "keep it in float")
    nodes = convert(Site(r, made, node, y))
    for n in nodes:
        if not isinstance(n.op, Reshape | Conv2dS8 | Conv3dS8 | LinearS8):  # checked by weighted()
            n.op.kernel_for(n, r.constants, find_target("generic"))
    return nodes


def _conv2d(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Conv2d)
    x, w, b, *rest = s.node.inputs
    image, q = s.quantised(x)
    y = narrowed(s.y, op.lo, op.hi)
    if is_mixed(s.r, s.node, q):
        return mixed_conv2d(s, image, q, y)
    skip = [s.quantised(v) for v in rest]
    direct = skip[0][1] if skip else None
    parameters = weighted(s.r, w, b, q, y, _reach(direct, y))
    layer = Conv2dS8(op.window, op.groups, q, y, y.lo, y.hi, direct=direct)
    return [s.last(layer, image, *parameters, *(v for v, _ in skip))]


def _reach(skip: Quant | None, y: Quant) -> float:
    """The most steps of y that a skip adds."""
    return 256 * skip.scale / y.scale if skip else 0


def _linear(s: Site) -> list[Node]:
    """With a residual, a 1x1 convolution over the rows."""
    op = s.node.op
    assert isinstance(op, Linear)
    x, w, b, *rest = s.node.inputs
    row, q = s.quantised(x)
    y = narrowed(s.y, op.lo, op.hi)
    if is_mixed(s.r, s.node, q):
        return mixed_linear(s, row, q, y)
    if not rest:
        return [s.last(LinearS8(q, y, y.lo, y.hi), row, *weighted(s.r, w, b, q, y))]
    skip, direct = s.quantised(rest[0])
    units, *parameters = weighted(s.r, w, b, q, y, _reach(direct, y))
    filters = s.r.constant(units.name, s.r.constants[units.name].reshape(*w.type.dims, 1, 1))
    rows = prod(x.type.dims[:-1])
    image, before = (s.inner(Reshape((1, 1, rows, v.type.dims[-1])), v) for v in (row, skip))
    layer = Conv2dS8(Window((1, 1)), 1, q, y, y.lo, y.hi, direct=direct)
    sums = s.inner(layer, image.output, filters, *parameters, before.output)
    return [image, before, sums, s.last(Reshape(skip.type.dims), sums.output)]


def _conv3d(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Conv3d)
    x, w, b, *rest = s.node.inputs
    if rest:
        raise Unsupported("something is added to its sums", "quantise the sum apart from it")
    image, q = s.quantised(x)
    y = narrowed(s.y, op.lo, op.hi)
    layer = Conv3dS8(op.axes, op.groups, q, y, y.lo, y.hi)
    return [s.last(layer, image, *weighted(s.r, w, b, q, y))]


def _matmul(s: Site) -> list[Node]:
    (a, qa), (b, qb) = (s.quantised(v) for v in s.node.inputs)
    return [s.last(MatMulS8(a=qa, b=qb, y=s.y), a, b)]


def _pool2d(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Pool2d)
    x, q = s.quantised(s.node.inputs[0])
    y = narrowed(s.y, op.lo, op.hi)
    counting = (op.divisor, op.count_padding)
    return [s.last(Pool2dS8(op.window, op.mean, q, y, y.lo, y.hi, *counting), x)]


def _softmax(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Softmax)
    x, q = s.quantised(s.node.inputs[0])
    powers = s.r.constant(f"{s.quantize.output.name}.powers", powers_of(q))
    return [s.last(SoftmaxS8(op.axis, q, s.y, op.log), x, powers)]


def _reduce(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Reduce)
    if op.row not in ("sum", "mean", "amax", "amin"):
        raise Unsupported(f"emx has no int8 form of {op.row}", "keep it in float")
    x, q = s.quantised(s.node.inputs[0])
    return [s.last(ReduceS8(op.row, op.axes, op.keepdim, q, s.y), x)]


def _norm(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, LayerNorm | RmsNorm)
    x, q = s.quantised(s.node.inputs[0])
    centred = isinstance(op, LayerNorm)
    weight = s.node.inputs[1]
    w = s.r.constants[weight.name]
    b = s.r.constants[s.node.inputs[2].name] if centred else np.zeros_like(w)
    m, c, shift = norm_parameters(w, b, s.y)
    values = [s.r.constant(f"{weight.name}.{k}", v) for k, v in (("folded", m), ("shift", c))]
    return [s.last(LayerNormS8(op.eps, shift, q, s.y, centred), x, *values)]


_WIDE = (Conv2d, Linear)  # also of int16

_CONVERTERS: Mapping[type[Op], Callable[[Site], list[Node]]] = {
    Conv2d: _conv2d,
    Conv3d: _conv3d,
    Dequantize: table,
    LayerNorm: _norm,
    Linear: _linear,
    MatMul: _matmul,
    Pointwise: pointwise,
    Pool2d: _pool2d,
    Recurrent: recurrent,
    Reduce: _reduce,
    RmsNorm: _norm,
    Softmax: _softmax,
}
