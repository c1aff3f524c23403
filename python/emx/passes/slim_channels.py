# SPDX-License-Identifier: Apache-2.0
"""Channels, which are the last axis: how those of a node's inputs and output belong together, and
which ones the outputs of a graph need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from emx.ir import Array, Graph, Node, Value
from emx.ops.binary_s8 import BinaryS8
from emx.ops.concat import Concat
from emx.ops.gather import Gather
from emx.ops.movement import Copy, Expand, Pad, Permute, Reshape, Slice
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.table_s8 import TableS8
from emx.passes.slim_layers import Channels, Layer

BLOCK = 4  # outputs of a layer that are computed at once: up to there, one more costs nothing
Masks = dict[str, Array]  # value name -> bool [channels]


def channels_of(graph: Graph, layers: Mapping[str, Layer]) -> dict[str, Channels]:
    """For each value that a node reads or writes. `layers`: the convolutions and linear layers, by
    the names of their outputs."""
    needed = _needed(graph, layers)
    kept = _kept(graph, needed, layers)
    return {name: Channels(needed[name], kept[name]) for name in needed}


@dataclass(frozen=True)
class Link:
    """Channel y[i] of the output is made of channel x[i] of input number `operand`."""

    operand: int
    x: Array
    y: Array


def _links(node: Node, layer: Layer | None) -> list[Link] | None:
    """None if the channels mix. Operands without a link stay whole, such as tables; the image of a
    layer does as its weights say."""
    op, y = node.op, node.output
    n = _extent(y)
    if layer:
        return [_same(5, n)] if len(node.inputs) > 5 else []
    if isinstance(op, Reshape):
        return _reshaped(_extent(node.inputs[0]), n)
    if isinstance(op, Concat) and op.axis == y.type.rank - 1:
        starts = np.cumsum([0, *map(_extent, node.inputs)])
        spans = [np.arange(a, b) for a, b in pairwise(starts)]
        return [Link(i, span - span[0], span) for i, span in enumerate(spans)]
    if isinstance(op, Slice) and op.axis == y.type.rank - 1:
        return [Link(0, op.start + np.arange(n), np.arange(n))] if op.step == 1 else None
    if isinstance(op, BinaryS8):
        return [_same(i, n) for i in (0, 1) if _extent(node.inputs[i]) == n]
    if isinstance(op, Concat):
        return [_same(i, n) for i in range(len(node.inputs))]
    return [_same(0, n)] if _is_channelwise(node) else None


def _same(operand: int, n: int) -> Link:
    return Link(operand, np.arange(n), np.arange(n))


def _is_channelwise(node: Node) -> bool:
    op, last = node.op, node.output.type.rank - 1
    if isinstance(op, Permute):
        return last >= 0 and op.perm[last] == last
    if isinstance(op, Pad):
        return last >= 0 and op.before[last] == op.after[last] == 0
    if isinstance(op, Expand):
        return _extent(node.inputs[0]) == _extent(node.output)
    if isinstance(op, ReduceS8):
        return node.inputs[0].type.rank - 1 not in op.axes
    if isinstance(op, Gather):
        return node.inputs[0].type.rank - 1 != op.axis
    return isinstance(op, Pool2dS8 | TableS8 | Slice | Copy)


def _reshaped(before: int, after: int) -> list[Link] | None:
    """The last axis may be merged with axes before it, so that channels repeat, or be split."""
    if max(before, after) % max(1, min(before, after)):
        return None
    at = np.arange(max(before, after))
    return [Link(0, at % before, at % after)]


def _extent(v: Value) -> int:
    """Number of channels; a scalar has one."""
    return v.type.dims[-1] if v.type.rank else 1


def _needed(graph: Graph, layers: Mapping[str, Layer]) -> Masks:
    """What the outputs depend on other than through a bias."""
    values = {v.name: v for n in graph.nodes for v in (*n.inputs, n.output)}
    masks = {name: np.zeros(_extent(v), bool) for name, v in values.items()}
    for v in (*graph.inputs, *graph.outputs):
        masks[v.name] = np.ones(_extent(v), bool)
    for node in reversed(graph.nodes):
        wanted = masks[node.output.name]
        if wanted.any():
            layer = layers.get(node.output.name)
            for v, mask in zip(node.inputs, _needs(node, wanted, layer), strict=True):
                masks[v.name] |= mask
    return masks


def _needs(node: Node, wanted: Array, layer: Layer | None) -> list[Array]:
    masks = [np.ones(_extent(v), bool) for v in node.inputs]
    if layer:
        masks[0] = layer.needs(wanted)
    for link in _links(node, layer) or ():
        masks[link.operand] = np.zeros_like(masks[link.operand])
        masks[link.operand][link.x[wanted[link.y]]] = True
    return masks


def _kept(graph: Graph, needed: Masks, layers: Mapping[str, Layer]) -> Masks:
    """Those needed, those that must stay with them, and more up to whole blocks."""
    masks = {name: mask.copy() for name, mask in needed.items()}
    before, after = -1, 0
    while before < after:
        for node in graph.nodes:
            _tie(node, masks, layers.get(node.output.name))
            _round_up(masks[node.output.name])
        before, after = after, sum(int(mask.sum()) for mask in masks.values())
    return masks


def _tie(node: Node, masks: Masks, layer: Layer | None) -> None:
    """Keep on one side of the node what is kept on the other and belongs to it."""
    x, y = (masks[v.name] for v in (node.inputs[0], node.output))
    links = _links(node, layer)
    bound = {link.operand for link in links or ()} | ({0} if layer and layer.takes_fewer else set())
    for i, v in enumerate(node.inputs):
        masks[v.name] |= i not in bound
    if links is None:
        y[:] = True
    for link in links or ():
        operand = masks[node.inputs[link.operand].name]
        operand[link.x[y[link.y]]] = True
        y[link.y[operand[link.x]]] = True
    if layer and layer.groups > 1 and not layer.takes_fewer:
        y[:] = True  # a group has as many outputs as the others
    elif layer and layer.groups > 1:
        groups = [mask.reshape(layer.groups, -1) for mask in (x, y)]
        stays = np.asarray(np.concatenate(groups, axis=1).any(axis=1))
        for group in groups:
            group |= stays[:, None]


def _round_up(mask: Array) -> None:
    """Keep some that could go, up to a whole number of blocks, at least one."""
    count = int(mask.sum())
    spare = max(1, -(-count // BLOCK)) * BLOCK - count
    mask[np.flatnonzero(~mask)[:spare]] = True
