# SPDX-License-Identifier: Apache-2.0
"""Run a graph in NumPy with the operators' references: the oracle of passes and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from emx.ir import Array, Graph


def interpret(
    graph: Graph, inputs: Sequence[Array], given: Mapping[str, Array] = MappingProxyType({})
) -> dict[str, Array]:
    """Every value of the graph by name. Floating-point inputs and constants become float64.
    `given`: values that operators read instead of those that the graph computes."""
    env = {v.name: _wide(x) for v, x in zip(graph.inputs, inputs, strict=True)}
    env.update({name: _wide(data) for name, data in graph.constants.items()})
    with np.errstate(all="ignore"):  # infinities and NaN are values like others
        for n in graph.nodes:
            reads = (_wide(given[v.name]) if v.name in given else env[v.name] for v in n.inputs)
            env[n.output.name] = n.op.reference(*reads)
    return env


def outputs(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of the graph for one set of inputs."""
    env = interpret(graph, inputs)
    return tuple(env[v.name] for v in graph.outputs)


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype == np.float32 else x
