# SPDX-License-Identifier: Apache-2.0
"""Each integer layer beside PyTorch's own dequantise, operator, quantise of the same integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emx import passes
from emx.bundle import AtenNode, Bundle, Ref
from emx.interpret import interpret
from emx.ir import Array, DType, Graph, Value
from emx.load import load
from emx.passes.integers import to_integers
from emx.passes.rewrite import inverse
from sampled import DECOMPOSED, call_torch

_TIE = 1e-7  # steps within which a result lies half-way between two


@dataclass
class Layer:
    """What a quantise call of the model and its twin gave, over all inputs.

    off    results that differ, apart from exact ties
    most   the largest difference, in steps
    """

    name: str
    size: int = 0
    off: int = 0
    ties: int = 0
    most: int = 0

    @property
    def rate(self) -> float:
        return self.off / self.size


def integer_graph(bundle: Bundle) -> Graph:
    """The graph in which every quantise call still has its own result."""
    graph = load(bundle)
    for p in passes.PIPELINE[: passes.PIPELINE.index(to_integers) + 1]:
        graph = p(graph)
    return graph


def compare_layers(bundle: Bundle, inputs: Sequence[Mapping[str, Array]]) -> list[Layer]:
    """The layers of a quantised model that are integer, in order. `inputs`: by name."""
    graph = integer_graph(bundle)
    twins = {n.output.eager.name: n.output for n in graph.nodes if n.output.eager}
    layers: dict[str, Layer] = {}
    for given in inputs:
        results = _twin(graph, given)
        run = _Run(bundle, given)
        for node in bundle.nodes:
            run.call(node)
            v = twins.get(node.name)
            if v and v.name in results and f"{DECOMPOSED}.quantize" in node.target:
                layer = layers.setdefault(node.name, Layer(node.name))
                twin = _as_in_pytorch(node, v, results)
                run.compare(node, twin, layer)
                run.replace(node, twin)
    return list(layers.values())


def _twin(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What each integer node gives."""
    env = interpret(graph, [inputs[v.name] for v in graph.inputs])
    values = (n.output for n in graph.nodes)
    return {v.name: env[v.name] for v in values if v.type.dtype is DType.S8}


def _as_in_pytorch(node: AtenNode, v: Value, twin: Mapping[str, Array]) -> Array:
    """A value of the twin with the layout and type of PyTorch's tensor."""
    (t,), eager = node.outputs, v.eager
    assert eager
    laid_out = twin[v.name].reshape([t.dims[p] for p in eager.perm])
    data = laid_out.transpose(inverse(eager.perm))
    return data if t.dtype is DType.S8 else (data.astype(np.int64) + 128).astype(np.uint8)


class _Run:
    """The calls of a model on one set of inputs, in float32 and beside it in float64."""

    def __init__(self, bundle: Bundle, inputs: Mapping[str, Array]) -> None:
        self._env: dict[str, Array] = {**bundle.tensors, **inputs}
        self._wide = {k: _wide(a) for k, a in self._env.items()}

    def call(self, node: AtenNode) -> None:
        results = call_torch(node.target, list(node.args), dict(node.kwargs), self._env)
        self._env.update(zip(node.output_names, (t.numpy() for t in results), strict=False))
        if node.target.startswith(DECOMPOSED):
            self._wide[node.name] = _wide(self._env[node.name])
            return
        wide = call_torch(node.target, list(node.args), dict(node.kwargs), self._wide)
        self._wide.update(zip(node.output_names, (t.numpy() for t in wide), strict=False))

    def compare(self, node: AtenNode, twin: Array, layer: Layer) -> None:
        x, scale = node.args[:2]
        assert isinstance(x, Ref) and isinstance(scale, float)
        steps = self._wide[x.name] / scale
        off = np.abs(self._env[node.name].astype(np.int64) - twin)
        tie = np.abs(np.abs(steps - np.floor(steps)) - 0.5) < _TIE
        layer.size += off.size
        layer.off += int((off[~tie] > 0).sum())
        layer.ties += int(tie.sum())
        layer.most = max(layer.most, int(off.max(initial=0)))

    def replace(self, node: AtenNode, data: Array) -> None:
        """What the calls behind a node get."""
        self._env[node.name] = self._wide[node.name] = np.ascontiguousarray(data)


def _wide(a: Array) -> Array:
    return a.astype(np.float64) if a.dtype == np.float32 else a
