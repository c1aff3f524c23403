# SPDX-License-Identifier: Apache-2.0
"""Slimming: channels of an integer graph that provably change no output go; the others keep every
bit.

A channel goes if nothing reads it with a weight other than zero, or if it is known whatever the
inputs are (slim_ranges.py) and adds the same to every sum of its readers: then their biases have
it. Filters that are zero come from quantisation (emx.quant.VANISHING).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from emx.ir import Array, DType, Graph, Node, Op, Value
from emx.ops.movement import Expand, Reshape, Slice
from emx.passes.cleanup import drop_dead_code
from emx.passes.slim_channels import channels_of
from emx.passes.slim_layers import Channels, Layer
from emx.passes.slim_ranges import ranges


def slim(graph: Graph) -> Graph:
    """The same function of fewer channels, and a proof for each layer that lost some."""
    graph = drop_dead_code(graph)
    if not any(n.output.type.dtype is DType.S8 for n in graph.nodes):
        return graph
    found = ranges(graph)
    layers = {
        n.output.name: layer for n in graph.nodes if (layer := Layer.of(n, graph.constants, found))
    }
    channels = channels_of(graph, layers)
    if all(c.kept.all() for c in channels.values()):
        return graph
    slimmer = _Slimmer(graph, layers, channels)
    nodes = tuple(map(slimmer.node, graph.nodes))
    proofs = [layer.proof(channels[name]) for name, layer in layers.items()]
    return drop_dead_code(
        replace(
            graph,
            nodes=nodes,
            constants=slimmer.constants,
            slimmed=tuple(proof for proof in proofs if proof.after < proof.before),
        )
    )


class _Slimmer:
    """Nodes and constants on the channels that are kept. Values keep their names, as do constants
    but weights, which two layers may share."""

    def __init__(
        self, graph: Graph, layers: Mapping[str, Layer], channels: Mapping[str, Channels]
    ) -> None:
        self._layers, self._channels = layers, channels
        self.constants = dict(graph.constants)
        for name in channels.keys() & graph.constants.keys():
            if not channels[name].kept.all():
                self.constants[name] = graph.constants[name][..., channels[name].kept]

    def node(self, node: Node) -> Node:
        layer = self._layers.get(node.output.name)
        inputs = tuple(map(self._value, node.inputs))
        outputs = (self._value(node.output),)
        if layer is None:
            kept = [self._channels[v.name].kept for v in (node.inputs[0], node.output)]
            return Node(_cut(node, *kept), inputs, outputs, node.origin)
        parameters = [self.constants[v.name] for v in node.inputs[1:5]]
        ends = [self._channels[v.name] for v in (node.inputs[0], node.output)]
        op, arrays = layer.cut(parameters, *ends)
        weights = map(self._weights, node.inputs[1:5], arrays)
        return Node(op, (inputs[0], *weights, *inputs[5:]), outputs, node.origin)

    def _value(self, v: Value) -> Value:
        """What is left of it is no tensor of PyTorch's."""
        kept = self._channels[v.name].kept
        if kept.all():
            return v
        return Value(v.name, replace(v.type, shape=(*v.type.dims[:-1], int(kept.sum()))))

    def _weights(self, v: Value, data: Array) -> Value:
        if np.array_equal(self.constants[v.name], data):
            return v
        name, k = f"{v.name}.slim", 0
        while name in self.constants:
            name, k = f"{v.name}.slim.{k}", k + 1
        self.constants[name] = data
        return Value(name, replace(v.type, shape=data.shape))


def _cut(node: Node, x: Array, y: Array) -> Op:
    """The operator on the channels kept of its first input and of its output."""
    op = node.op
    if isinstance(op, Reshape | Expand):
        return replace(op, shape=(*op.shape[:-1], int(y.sum()))) if op.shape else op
    if isinstance(op, Slice) and op.axis == node.output.type.rank - 1 and not x.all():
        return replace(op, start=int(x[: op.start].sum()), count=int(y.sum()))
    return op
