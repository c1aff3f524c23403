# SPDX-License-Identifier: Apache-2.0
"""Where integers meet floats: at inputs and outputs, and around layers that stay float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from emx.errors import EmxError, Problem
from emx.ir import Array, DType, FloatLayer, Graph, Node, Unsupported, Value
from emx.ops.movement import Movement, Reshape
from emx.ops.quantize import Dequantize, Quantize
from emx.passes.cleanup import drop_dead_code
from emx.passes.integers import why_float


def integer_io(graph: Graph) -> Graph:
    """An input that is only quantised, and an output that is dequantised, is the integers."""
    return _integer_outputs(_integer_inputs(graph))


def _integer_inputs(graph: Graph) -> Graph:
    users = graph.users()
    outputs = {v.name for v in graph.outputs}
    become: dict[str, Value] = {}  # what quantises -> the input that it was
    quants = dict(graph.quants)
    inputs: list[Value] = []
    for v in graph.inputs:
        readers = users.get(v.name, [])
        (first,) = readers if len(readers) == 1 else (None,)
        if first and isinstance(first.op, Quantize) and v.name not in outputs:
            quants[v.name] = first.op.q
            v = Value(v.name, first.output.type, first.output.eager)
            become[first.output.name] = v
        inputs.append(v)
    nodes = [
        replace(n, inputs=tuple(become.get(v.name, v) for v in n.inputs))
        for n in graph.nodes
        if n.output.name not in become
    ]
    results = tuple(become.get(v.name, v) for v in graph.outputs)
    return replace(graph, inputs=tuple(inputs), nodes=tuple(nodes), outputs=results, quants=quants)


def _integer_outputs(graph: Graph) -> Graph:
    makers = graph.producers()
    quants = dict(graph.quants)
    outputs: list[Value] = []
    for v in graph.outputs:
        made = makers.get(v.name)
        if made and isinstance(made.op, Dequantize):
            (v,) = made.inputs
            quants[v.name] = made.op.q
        outputs.append(v)
    return drop_dead_code(replace(graph, outputs=tuple(outputs), quants=quants))


def note_float_layers(graph: Graph) -> Graph:
    """The layers of a quantised model that compute with floats, each with the reason."""
    reasons = why_float(graph)
    makers = graph.producers()
    behind, before = _behind(graph.nodes), _before(graph.nodes)
    layers: list[FloatLayer] = []
    for n in graph.nodes:
        name = n.output.name
        if not _computes(n) or (not behind and not before):
            continue
        why = reasons.get(name) or _not_quantised(n, graph.constants, makers)
        inside = name in behind and name in before
        layers.append(FloatLayer(name, n.origin, why.what, why.hint, inside))
    return replace(graph, float_layers=tuple(layers))


def require_integers(graph: Graph) -> None:
    """EmxError with all layers between quantised values that compute with floats."""
    problems = [
        Problem(f"this layer stays in float: {f.reason}", str(f.origin), f"%{f.layer}", f.hint)
        for f in graph.float_layers
        if f.inside
    ]
    if problems:
        raise EmxError.of(problems, "layers of this quantised model stay in float")


def _computes(n: Node) -> bool:
    floats = any(v.type.dtype is DType.F32 for v in (*n.inputs, n.output))
    return floats and not isinstance(n.op, Quantize | Dequantize | Movement | Reshape)


def _not_quantised(
    n: Node, constants: Mapping[str, Array], makers: Mapping[str, Node]
) -> Unsupported:
    read = [makers.get(v.name) for v in n.inputs if v.name not in constants]
    known = all(m and isinstance(m.op, Dequantize) for m in read)
    what = "its result is not quantised" if known else "its input is not quantised"
    return Unsupported(what, "quantise it, so that this layer can be integer")


def _behind(nodes: Iterable[Node]) -> set[str]:
    """The values that depend on quantised ones."""
    found: set[str] = set()
    for n in nodes:
        if isinstance(n.op, Quantize | Dequantize) or any(v.name in found for v in n.inputs):
            found.add(n.output.name)
    return found


def _before(nodes: Sequence[Node]) -> set[str]:
    """The values on which quantised ones depend."""
    found: set[str] = set()
    for n in reversed(nodes):
        if isinstance(n.op, Quantize | Dequantize) or n.output.name in found:
            found.update(v.name for v in n.inputs)
    return found
