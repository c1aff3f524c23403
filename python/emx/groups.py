# SPDX-License-Identifier: Apache-2.0
"""Which of the first layers of a graph can run row by row as one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from emx.ir import Node, TensorType, Value
from emx.kernel import Rows, Wishes
from emx.select import Group, Offer, Place, priced
from emx.stream import STAGES


def groups(offered: Offer, *, fed: bool) -> Iterator[Group]:
    """All of them, the smallest first: each ends where a single tensor goes on."""
    rows = _rows(offered, fed=fed)
    planes = _planes(offered) if fed else 0
    for n in range(1 if fed else 2, len(rows) + 1):
        if _ends(offered, rows, n, fed=fed):
            yield Group(tuple(rows[:n]), planes)


def _planes(offered: Offer) -> int:
    """How many planes of one channel the input has in the model's own order."""
    planar = (n.node for n in offered.layers if _is_planar(offered, n.node))
    return next((node.inputs[0].type.dims[1] for node in planar), 1)


def _is_planar(offered: Offer, node: Node) -> bool:
    """Whether a node reads an input of the graph channels first."""
    first = bool(getattr(node.op, "channels_first", False))
    return first and _input(offered, node.inputs[0]) is not None


def _rows(offered: Offer, *, fed: bool) -> list[Rows]:
    """Of the first layers, up to one that has none, or that reads what does not come in rows."""
    graph = offered.graph
    wishes = Wishes(offered.wishes.optimize, "min")
    found: list[Rows] = []
    made: dict[str, int] = {}  # value -> the calls that make its rows
    taken: dict[str, tuple[str, int, int]] = {}  # input -> how its first reader sees it
    for layer in offered.layers[:STAGES]:
        node = _by_rows(offered, layer.node) if fed else layer.node
        rows = node.op.rows(node, graph.constants, offered.target, wishes)
        if rows is None:
            break
        for operand, i in rows.kernels[0].inputs.items():
            v, span = node.inputs[i], rows.spans.get(operand)
            if v.name in graph.constants and span is None:
                continue
            if span and v.name in made and (span.height, span.planes) == (made[v.name], 1):
                continue
            root = _input(offered, v)
            if span is None or root is None or v.name in made:
                return found
            seen = (v.name, span.height, span.planes)
            if taken.setdefault(root, seen) != seen:
                return found
        made[layer.name] = rows.calls
        kernels = tuple(priced(k, node, rows.calls) for k in rows.kernels)
        found.append(replace(rows, kernels=kernels))
    return found


def _input(offered: Offer, v: Value) -> str | None:
    """The input of the graph that `v` is, perhaps in another shape."""
    place = offered.places.get(v.name, Place(v.name))
    for x in offered.graph.inputs:
        if x.name == place.root and place.start == 0 and x.type.size == v.type.size:
            return x.name
    return None


def _by_rows(offered: Offer, node: Node) -> Node:
    """The node as it reads an image that comes row by row: all channels of a pixel, then the next
    pixel."""
    if not _is_planar(offered, node):
        return node
    op: Any = node.op
    x = node.inputs[0]
    n, c, h, w = x.type.dims
    image = Value(x.name, TensorType((n, h, w, c), x.type.dtype))
    return replace(node, op=replace(op, channels_first=False), inputs=(image, *node.inputs[1:]))


def _ends(offered: Offer, rows: list[Rows], n: int, *, fed: bool) -> bool:
    """Whether the last of the first n layers makes what the others need of them, and nothing else
    does, nor an input that comes in row by row; what accumulates can only be the last."""
    graph = offered.graph
    others = [v for layer in offered.layers[n:] for v in layer.node.inputs]
    read = {offered.places.get(v.name, Place(v.name)).root for v in (*others, *graph.outputs)}
    inside = {layer.name for layer in offered.layers[: n - 1]}
    if fed:
        inside |= {v.name for v in graph.inputs}
    return inside.isdisjoint(read) and not any(r.accumulates for r in rows[: n - 1])
