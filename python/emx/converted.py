# SPDX-License-Identifier: Apache-2.0
"""How far the integers are from PyTorch's own quantised model, which computes with floats between
its quantisations.

Layer by layer, on the very integers that PyTorch had: a layer's own error, at most one step. And
from input to output, where such steps have gone through all the layers that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from emx.bundle import Vectors
from emx.compare import columns, compare, finite_or_null
from emx.interpret import interpret
from emx.ir import Array, DType, Graph, Value
from emx.ops.movement import Movement, Reshape
from emx.ops.quantize import Dequantize
from emx.quant import Quant
from emx.twin import dequantised, eager_layers, quantised

LEAST_SQNR_DB = 20.0  # of an output, where it differs by more than a step


@dataclass(frozen=True)
class OutputDistance:
    """An output over all test vectors, in reals.

    steps   the largest difference, in steps of the output's scale; None of floats that have none
    rate    the share of elements that differ
    argmax  the share of vectors whose largest element PyTorch has as the largest too
    """

    name: str
    steps: float | None
    rate: float
    sqnr_db: float
    argmax: float

    @property
    def ok(self) -> bool:
        near = self.steps is not None and self.steps < 1.5
        return near or self.sqnr_db >= LEAST_SQNR_DB


@dataclass(frozen=True)
class LayerDistance:
    """A quantised value for test vector 0, from inputs that are PyTorch's.

    steps  the largest difference of integers; rate: the share of those that differ
    """

    name: str
    module: str
    source: str
    steps: int
    rate: float


@dataclass(frozen=True)
class Distances:
    outputs: tuple[OutputDistance, ...]
    layers: tuple[LayerDistance, ...]

    @property
    def ok(self) -> bool:
        return all(o.ok for o in self.outputs)

    def lines(self, *, layers: bool) -> list[str]:
        """Tables, and a verdict."""
        rows: list[tuple[str, ...]] = [
            (o.name, "" if o.steps is None else f"{o.steps:.0f}", f"{100 * o.rate:.3g} %",
             f"{o.sqnr_db:.1f} dB", f"{100 * o.argmax:.3g} %")
            for o in self.outputs
        ]  # fmt: skip
        found = columns(("output", "steps", "differ", "SQNR", "same largest"), rows)
        if layers and self.layers:
            rows = [(n.name, str(n.steps), f"{100 * n.rate:.3g} %", n.source) for n in self.layers]
            found += ["", *columns(("layer", "steps", "differ", "source"), rows)]
        verdict = "is near" if self.ok else "is FAR from"
        return [*found, "", f"the Python twin {verdict} PyTorch's quantised model"]

    def to_dict(self) -> dict[str, object]:
        """As JSON, docs/cli.md."""
        return {
            "ok": self.ok,
            "outputs": [finite_or_null(asdict(o)) for o in self.outputs],
            "layers": [finite_or_null(asdict(n)) for n in self.layers],
        }


def distances(graph: Graph, vectors: Vectors, outputs: Mapping[str, Array]) -> Distances:
    """`outputs`: what the graph computes of `vectors`, by name."""
    found = [
        _output(name, scale_of(graph, v), outputs[name], vectors.outputs[name])
        for name, v in zip(graph.output_names, graph.outputs, strict=True)
    ]
    return Distances(tuple(found), _layers(graph, vectors))


def scale_of(graph: Graph, v: Value) -> Quant | None:
    """The quantisation of an output: of its integers, or of those that it was made of."""
    producers = graph.producers()
    while v.name not in graph.quants and v.name in producers:
        n = producers[v.name]
        if isinstance(n.op, Dequantize):
            return n.op.q
        if not isinstance(n.op, Movement | Reshape):
            return None
        v = n.inputs[0]
    return graph.quants.get(v.name)


def _output(name: str, q: Quant | None, y: Array, eager: Array) -> OutputDistance:
    real = dequantised(q, y)
    d = compare(real, eager, 0, 0)
    rows, want = real.reshape(len(real), -1), eager.reshape(len(eager), -1)
    same = want[np.arange(len(want)), rows.argmax(1)] == want.max(1)
    steps = d.max_abs / q.scale if q else None
    return OutputDistance(name, steps, float((real != eager).mean()), d.sqnr_db, float(same.mean()))


def _layers(graph: Graph, vectors: Vectors) -> tuple[LayerDistance, ...]:
    eager = eager_layers(graph, vectors)
    inputs = [quantised(graph, v, vectors.inputs[v.name][0]) for v in graph.inputs]
    env = interpret(graph, inputs, eager)
    found = []
    for n in graph.nodes:
        v = n.output
        if v.name in eager and v.type.dtype in (DType.S8, DType.S16) and v.type.size:
            d = np.abs(env[v.name].astype(np.int64) - eager[v.name])
            name = (v.eager or v).name.removesuffix(".0")
            where = (name, n.origin.module, n.origin.source)
            found.append(LayerDistance(*where, int(d.max()), float((d > 0).mean())))
    return tuple(found)
