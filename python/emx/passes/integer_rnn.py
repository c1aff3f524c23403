# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers between dequantise and quantise. Their weights, which PyTorch's quantisers leave
in float, become int8 here, and so does h between the layers of one call: it lies between -1 and 1.
"""

from __future__ import annotations

import numpy as np

from emx.fixed import tanh_table
from emx.ir import Array, Node, Unsupported, Value
from emx.ops.quantize import Quantize
from emx.ops.rnn import Recurrent
from emx.ops.rnn_s8 import GATES, RecurrentS8, row_parameters
from emx.passes.site import Site
from emx.quant import Quant

BETWEEN = Quant(1 / 128)  # of the h of a layer that only the next one reads


def recurrent(s: Site) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Recurrent)
    if op.kind not in GATES or op.cell:
        what = "an LSTM whose cell state is read" if op.cell else op.kind
        raise Unsupported(f"emx has no int8 form of {what}", "keep it in float")
    x, h0, *c0, w, u, b = s.node.inputs
    before, (rows, q) = _input(s, x)
    states, c = [_state(s, h0)], None
    if c0:
        cell, c = _cell(s, c0[0])
        states.append(cell)
    of_x, of_h, biases = (s.r.constants[v.name] for v in (w, u, b))
    *arrays, shift = row_parameters(of_x, of_h, _biases(op.kind, biases), q, s.y)
    layer = RecurrentS8(op.kind, shift, q, s.y, c, op.last)
    constants = [
        s.r.constant(f"{v.name}.folded", a) for v, a in zip((w, u, b), arrays, strict=True)
    ]
    table = s.r.constant("tanh", tanh_table())
    return [*before, s.last(layer, rows, *states, *constants, table)]


def _input(s: Site, x: Value) -> tuple[list[Node], tuple[Value, Quant]]:
    """x in integers; the output of a layer that itself becomes integer is quantised here."""
    made = s.r.made_by(x)
    if made is None or not isinstance(made.op, Recurrent):
        return [], s.quantised(x)
    while made and isinstance(made.op, Recurrent):
        x = made.inputs[0]
        made = s.r.made_by(x)
    s.quantised(x)  # or none of these layers is
    between = s.inner(Quantize(BETWEEN), s.node.inputs[0])
    return [between], (between.output, BETWEEN)


def _state(s: Site, h0: Value) -> Value:
    data = s.r.data(h0)
    if data is not None:
        return s.r.constant(h0.name, s.y.quantise(data))
    found, q = s.quantised(h0)
    if (q.scale, q.zero) != (s.y.scale, s.y.zero):
        raise Unsupported("its first state has another scale than h", "let both share one")
    return found


def _cell(s: Site, c0: Value) -> tuple[Value, Quant]:
    data = s.r.data(c0)
    if data is None:
        return s.quantised(c0)
    most = float(np.abs(data).max(initial=0))
    q = Quant(float(np.float32(most / 127)) if most else BETWEEN.scale)
    return s.r.constant(c0.name, q.quantise(data)), q


def _biases(kind: str, b: Array) -> Array:
    """[dirs][2][rows]: what x adds and what h adds."""
    gates = GATES[kind]
    units = b.shape[-1] // (gates + (kind == "gru"))
    of_x = b[:, : gates * units]
    of_h = np.zeros_like(of_x)
    if kind == "gru":
        of_h[:, 2 * units :] = b[:, 3 * units :]
    return np.stack([of_x, of_h], axis=1)
