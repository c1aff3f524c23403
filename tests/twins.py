# SPDX-License-Identifier: Apache-2.0
"""Integer operators by hand: their C against their twins in NumPy, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emx import check_plan
from emx.api import write
from emx.build import find_machine
from emx.bundle import Vectors
from emx.emit import emit
from emx.ir import Array, DType, Graph, Node, Op, TensorType, Value, verify
from emx.options import Options
from emx.plan import plan
from emx.quant import Quant
from emx.select import select
from emx.target import find_target
from emx.twin import EXACT, expected
from emx.version import VERSION
from kernels_s8 import Layer, run_kernels
from many import run_written

MACHINES = {
    "host": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "mps2-an386": ("-O2",),
    "mps3-an547": ("-O3",),
}


@dataclass(frozen=True)
class Case:
    """One node on `inputs`, whose first axis counts test vectors, and `constants` after them."""

    name: str
    op: Op
    inputs: tuple[Array, ...]
    constants: tuple[Array, ...] = ()

    def graph(self) -> Graph:
        xs = [_value(f"x{i}", x[0]) for i, x in enumerate(self.inputs)]
        cs = [_value(f"c{i}", c) for i, c in enumerate(self.constants)]
        y = Value("y", self.op.infer(*(v.type for v in (*xs, *cs))))
        node = Node(self.op, (*xs, *cs), (y,))
        constants = dict(zip((c.name for c in cs), self.constants, strict=True))
        quants = {"y": Quant(1.0)}  # any: the graph counts as quantised
        graph = Graph(self.name, tuple(xs), (y,), ("y",), (node,), constants, quants=quants)
        verify(graph)
        return graph

    @property
    def layer(self) -> Layer:
        """The first vector, for calls of the kernels by hand."""
        first, *rest = (x[0] for x in self.inputs)
        return Layer(self.op, first, (*rest, *self.constants))

    def outputs(self) -> Array:
        """What the twin gives for every vector."""
        each = zip(*self.inputs, strict=True)
        return np.stack([self.op.reference(*x, *self.constants) for x in each])


def _value(name: str, data: Array) -> Value:
    return Value(name, TensorType(data.shape, DType.of(data.dtype)))


def check_graph(graph: Graph, inputs: Sequence[Array], directory: Path, machine: str) -> None:
    """Write the C of `graph` and a test of it against the twin on `inputs`."""
    names = [v.name for v in graph.inputs]
    given = dict(zip(names, inputs, strict=True))
    want = expected(graph, Vectors(given, dict.fromkeys(graph.output_names, inputs[0])), EXACT)
    planned = plan(select(graph, find_target(find_machine(machine).target)))
    check_plan.check(planned)
    write(emit(planned, Options(test=True), model_hash="", expected=want, version=VERSION),
          directory)  # fmt: skip


def run_cases(cases: Sequence[Case], directory: Path, machine: str) -> None:
    """All cases in one program."""
    for case in cases:
        check_graph(case.graph(), case.inputs, directory, machine)
    run_written([c.name for c in cases], directory, machine, MACHINES[machine])


def overlap_cases(cases: Sequence[Case], directory: Path, machine: str) -> None:
    """Every candidate with y as near to its inputs as it says, and within its scratch."""
    layers = {c.name: c.layer for c in cases if c.inputs[0].size}
    lines = run_kernels(layers, directory, machine, *MACHINES[machine])
    assert [line for line in lines if not line.endswith("good")] == []
    assert {line.rsplit("_", 1)[0] for line in lines if line.endswith("-1 good")} == set(layers)


def s8(random: np.random.Generator, *shape: int, low: int = -128, high: int = 127) -> Array:
    return np.asarray(random.integers(low, high, shape, np.int8, endpoint=True))
