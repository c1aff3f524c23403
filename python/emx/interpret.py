# SPDX-License-Identifier: Apache-2.0
"""Run a graph in NumPy with the operators' references: the oracle of passes and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from emx.ir import Array, Graph, TensorType


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
            env[n.output.name] = y = n.op.reference(*reads)
            assert _is_of(y, n.output.type), f"{n.op.name} gives {y.dtype}{list(y.shape)} for {n}"
    return env


def outputs(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of the graph for one set of inputs."""
    env = interpret(graph, inputs)
    return tuple(env[v.name] for v in graph.outputs)


def _is_of(y: Array, t: TensorType) -> bool:
    """Whether a result has the type that the graph says, or is computed in a wider one."""
    return y.shape == t.dims and y.dtype in (t.dtype.numpy, np.int64, np.float32, np.float64)


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype == np.float32 else x
