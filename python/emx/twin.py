# SPDX-License-Identifier: Apache-2.0
"""What the C of a graph has to compute for its test vectors, and how closely.

For floats that is what PyTorch computed, within a tolerance. What is integer has a twin: the
operators' references, which say every bit (docs/output-format.md, "Integer arithmetic"); what they
give here the C gives on every machine. Behind a layer that stays float no bit can be asked for:
floats may differ in their last bits, and a value that is quantised again by a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeGuard

import numpy as np

from emx.bundle import Vectors
from emx.interpret import interpret
from emx.ir import Array, DType, Graph, Node, Op, Value
from emx.ops.movement import Movement, Reshape
from emx.ops.quantize import Dequantize
from emx.pointwise import Pointwise
from emx.quant import Quant
from emx.scalars import Call

PYTORCH, TWIN = "PyTorch", "the Python twin"
STEPS = 2  # that an integer may be off behind a layer that stays float
_ROUGH = STEPS / 128  # of the largest value, where such integers became floats again
_ROUNDING = 1e-6  # of steps to floats
_UNROUNDED = ("f32", "neg", "abs", "clamp", "maximum", "minimum", "where")  # rows that pick


@dataclass(frozen=True)
class Tolerance:
    """A float passes if |y - want| <= atol + rtol * (the largest finite |want| of its tensor), an
    integer if |y - want| <= atol."""

    rtol: float = 0
    atol: float = 0


EXACT = Tolerance()


@dataclass(frozen=True)
class Expected:
    """Test vectors as the C takes them, and what it must give.

    source      who says so: PYTORCH or TWIN
    inputs, outputs   by name; first axis: test vector
    layers      what steps write for test vector 0, laid out as they do, by value name; of
                emx.testdata.of_steps(), by step name
    tolerances, layer_tolerances   of outputs and layers, by the same names
    """

    source: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    layers: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]
    layer_tolerances: Mapping[str, Tolerance]

    @property
    def count(self) -> int:
        return min((len(a) for a in self.outputs.values()), default=0)


def expected(graph: Graph, vectors: Vectors, floats: Tolerance) -> Expected:
    """What the C of `graph`, after all passes, must compute. `floats`: the tolerance of floats."""
    if not is_quantised(graph):
        return _by_pytorch(graph, vectors, floats)
    twin = run_twin(graph, vectors)
    values = tolerances(graph, floats)
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    by_name = {name: values[v.name] for name, v in outputs}
    return Expected(TWIN, twin.inputs, twin.outputs, twin.layers, by_name, values)


def unknown(graph: Graph, inputs: Mapping[str, Array]) -> Expected:
    """For a run whose outputs are of interest, not whether they are zero, as is expected here."""
    given = {v.name: quantised(graph, v, inputs[v.name]) for v in graph.inputs}
    count = min(map(len, given.values()))
    outputs = {
        name: np.zeros((count, *v.type.dims), v.type.dtype.numpy)
        for name, v in zip(graph.output_names, graph.outputs, strict=True)
    }
    return Expected(TWIN, given, outputs, {}, dict.fromkeys(outputs, EXACT), {})


def is_quantised(graph: Graph) -> bool:
    """Whether integers of this graph stand for reals."""
    fields = (f for n in graph.nodes for f in vars(n.op).values())
    return bool(graph.quants) or any(isinstance(f, Quant) for f in fields)


def run_twin(graph: Graph, vectors: Vectors) -> Vectors:
    """The graph on the inputs of `vectors`, which are quantised where the C takes integers.
    `layers` is by value name."""
    inputs = {v.name: quantised(graph, v, vectors.inputs[v.name]) for v in graph.inputs}
    outputs: dict[str, list[Array]] = {name: [] for name in graph.output_names}
    layers: dict[str, Array] = {}
    for k in range(vectors.count):
        env = interpret(graph, [inputs[v.name][k] for v in graph.inputs])
        for name, v in zip(graph.output_names, graph.outputs, strict=True):
            outputs[name].append(_typed(env, v))
        layers = layers or {n.output.name: _typed(env, n.output) for n in graph.nodes}
    return Vectors(inputs, {name: np.stack(rows) for name, rows in outputs.items()}, layers)


def quantised(graph: Graph, v: Value, data: Array) -> Array:
    """Values of an input as the C takes them: as they are, or as integers that stand for them."""
    q = graph.quants.get(v.name)
    return data if q is None or data.dtype == q.dtype.numpy else q.quantise(data)


def dequantised(q: Quant | None, data: Array) -> Array:
    """What integers stand for; other data as it is."""
    return data if q is None or data.dtype != q.dtype.numpy else q.dequantise(data)


class _Class(IntEnum):
    """How much of a value is certain: every bit; all but the last bits of floats; all but steps."""

    EXACT = 0
    FLOAT = 1
    ROUGH = 2


def tolerances(graph: Graph, floats: Tolerance) -> dict[str, Tolerance]:
    """The tolerance of every value of a quantised graph."""
    known = {v.name: _Class.EXACT for v in graph.inputs}
    found = {v.name: EXACT for v in graph.inputs}
    for n in graph.nodes:
        known[n.output.name] = c = _class_of(n, known)
        if isinstance(n.op, Movement | Reshape):
            found[n.output.name] = found.get(n.inputs[0].name, EXACT)
        elif c is _Class.ROUGH:
            found[n.output.name] = _rough(n)
        else:
            found[n.output.name] = floats if c is _Class.FLOAT else EXACT
    return found


def _class_of(n: Node, known: Mapping[str, _Class]) -> _Class:
    worst = max((known.get(v.name, _Class.EXACT) for v in n.inputs), default=_Class.EXACT)
    if n.output.type.dtype is not DType.F32:
        return _Class.ROUGH if worst or _rounds_inside(n.op) else _Class.EXACT
    keeps_bits = isinstance(n.op, Movement | Reshape | Dequantize)
    return worst if keeps_bits else max(worst, _Class.FLOAT)


def _rounds_inside(op: Op) -> bool:
    """Whether a loop quantises floats of its own that a compiler may round in another way: what
    rounds once, such as one dequantised integer, is the same everywhere."""
    return (
        isinstance(op, Pointwise)
        and op.expr.row.startswith("quantize_")
        and sum(map(_roundings, filter(_is_call, op.expr.args))) > 1
    )


def _roundings(call: Call) -> int:
    whole = call.row == "sub" and _is_call(call.args[0]) and call.args[0].row == "f32"
    own = 0 if whole or call.row in _UNROUNDED else 1
    return own + sum(map(_roundings, filter(_is_call, call.args)))


def _is_call(argument: Call | int | float) -> TypeGuard[Call]:
    return isinstance(argument, Call)


def _rough(n: Node) -> Tolerance:
    if n.output.type.dtype is not DType.F32:
        return Tolerance(atol=STEPS)
    if isinstance(n.op, Dequantize):
        return Tolerance(_ROUNDING, STEPS * n.op.q.scale)
    return Tolerance(rtol=_ROUGH)


def _by_pytorch(graph: Graph, vectors: Vectors, floats: Tolerance) -> Expected:
    def tolerance(v: Value) -> Tolerance:
        return floats if v.type.dtype is DType.F32 else EXACT

    layers = eager_layers(graph, vectors)
    outputs = dict(zip(graph.output_names, map(tolerance, graph.outputs), strict=True))
    values = {n.output.name: tolerance(n.output) for n in graph.nodes}
    return Expected(PYTORCH, vectors.inputs, vectors.outputs, layers, outputs, values)


def eager_layers(graph: Graph, vectors: Vectors) -> dict[str, Array]:
    """Value name -> what PyTorch gave for test vector 0, laid out as the value is, where it gave
    something of that type: reshaping leaves the elements in order."""
    layers: dict[str, Array] = {}
    for n in reversed(graph.nodes):
        v = n.output
        data = vectors.layers.get(v.eager.name) if v.eager else None
        if v.eager and data is not None:
            data = _signed(data) if v.type.dtype is DType.S8 else data
            if data.dtype == v.type.dtype.numpy:
                layers[v.name] = data.transpose(v.eager.perm).reshape(v.type.dims)
        if isinstance(n.op, Reshape) and v.name in layers:
            x = n.inputs[0]
            layers.setdefault(x.name, layers[v.name].reshape(x.type.dims))
    return layers


def _signed(data: Array) -> Array:
    """What PyTorch has as uint8 is int8 here, 128 less."""
    return (data ^ np.uint8(128)).view(np.int8) if data.dtype == np.uint8 else data


def _typed(env: Mapping[str, Array], v: Value) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(env[v.name], v.type.dtype.numpy).reshape(v.type.dims)
