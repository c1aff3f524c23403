# SPDX-License-Identifier: Apache-2.0
"""Where the quantisation loses: the noise of each layer against the float model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emx.compare import decibel
from emx.interpret import interpret
from emx.ir import Array, DType, Graph, Node, Value
from emx.ops.quantize import Dequantize, Quantize
from emx.quant import Quant
from emx.twin import quantised


@dataclass(frozen=True)
class LayerNoise:
    """A quantised value over some samples, as ratios of the float model's signal to the noise:

    sqnr_db      with all noise that the layers before it left
    own_sqnr_db  with the layer's own alone: its inputs are the float model's, quantised
    """

    name: str
    module: str
    source: str
    sqnr_db: float
    own_sqnr_db: float


@dataclass(frozen=True)
class Source:
    """What a quantised value of PyTorch's model stands for, and the module that computes it."""

    quant: Quant
    module: str


def sources(loaded: Graph) -> dict[str, Source]:
    """By the name of the quantised value; `loaded` is the graph before all passes. What PyTorch has
    as uint8 is int8 in emx, 128 less."""
    makers = loaded.producers()
    found = {}
    for n in loaded.nodes:
        if isinstance(n.op, Quantize):
            q = n.op.q
            if q.dtype is DType.U8:
                q = replace(q, zero=q.zero - 128, dtype=DType.S8, lo=q.lo - 128, hi=q.hi - 128)
            found[n.output.name] = Source(q, _module(n, makers))
    return found


def _module(n: Node, makers: Mapping[str, Node]) -> str:
    """That of the last operator up to here that lies in one: of the layer before an activation
    function that forward() calls."""
    while not n.origin.module and n.inputs[0].name in makers:
        n = makers[n.inputs[0].name]
        if isinstance(n.op, Dequantize):
            return ""
    return n.origin.module


def layer_noise(
    graph: Graph,
    made: Mapping[str, Source],
    inputs: Sequence[Mapping[str, Array]],
    floats: Sequence[Mapping[str, Array]],
) -> tuple[LayerNoise, ...]:
    """The noisiest first. Of each sample: inputs by name, and what the float model has where the
    quantised one has a quantised value, by the name of that."""
    powers: dict[str, Array] = {}  # of signal, noise, its own noise
    for given, values in zip(inputs, floats, strict=True):
        xs = [quantised(graph, v, given[v.name]) for v in graph.inputs]
        known = {n.output.name: _exact(n.output, made, values) for n in graph.nodes}
        exact = {name: k for name, k in known.items() if k}
        right = {name: q.quantise(x) for name, (q, x) in exact.items()}
        whole, alone = interpret(graph, xs), interpret(graph, xs, right)
        for name, (q, x) in exact.items():
            errors = (q.dequantise(env[name]) - x for env in (whole, alone))
            powers[name] = powers.get(name, 0) + np.array([_power(x), *map(_power, errors)])
    rows = []
    for n in graph.nodes:
        if n.output.name in powers:
            signal, noise, own = powers[n.output.name]
            assert n.output.eager
            name = n.output.eager.name
            where = (name, made[n.output.eager.name].module, n.origin.source)
            rows.append(LayerNoise(*where, decibel(signal, noise), decibel(signal, own)))
    return tuple(sorted(rows, key=lambda r: r.sqnr_db))


def _exact(
    v: Value, made: Mapping[str, Source], values: Mapping[str, Array]
) -> tuple[Quant, Array] | None:
    """What a quantised value stands for, and the float model's value as it lies in `v`; None where
    there is no such value."""
    if v.eager is None or v.type.dtype is DType.F32:
        return None
    source, x = made.get(v.eager.name), values.get(v.eager.name)
    if source is None or x is None or x.size != v.type.size:
        return None
    return source.quant, x.transpose(v.eager.perm).reshape(v.type.dims).astype(np.float64)


def _power(x: Array) -> float:
    return float((np.asarray(x, np.float64) ** 2).sum())
