# SPDX-License-Identifier: Apache-2.0
"""Images of uint8 that a model normalises: where that ends, and in which steps it is quantised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

_STRAIGHT = 1e-3  # steps that a pixel may lie beside a straight line


@dataclass(frozen=True)
class Pixels:
    """`inside`: floats on the way from uint8 to `ends`, which others read; scale and zero point of
    those whose steps are those of the pixels."""

    inside: frozenset[Any]
    ends: dict[Any, tuple[float, int] | None]


def find_pixels(
    nodes: Iterable[Any], is_function: Callable[[Any], bool], constant: Callable[[Any], Any]
) -> Pixels:
    """`is_function` tells which nodes are functions of each element, `constant` gives the tensor of
    a get_attr."""
    leaf: dict[Any, Any] = {}  # a float that one uint8 value decides -> that value
    for n in nodes:
        varying = [i for i in n.all_input_nodes if i.op != "get_attr"]
        found = {leaf.get(i, i if _dtype(i) == torch.uint8 else None) for i in varying}
        same = len(found) == 1 and _dtype(n) == torch.float32 and is_function(n)
        if same and (source := found.pop()) is not None and _shape(n) == _shape(source):
            leaf[n] = source
    ends = [n for n in leaf if any(u not in leaf for u in n.users)]
    return Pixels(frozenset(leaf.keys() - ends), {n: _steps(n, leaf[n], constant) for n in ends})


def _dtype(node: Any) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)


def _shape(node: Any) -> Any:
    return getattr(node.meta.get("val"), "shape", None)


def _steps(end: Any, leaf: Any, constant: Callable[[Any], Any]) -> tuple[float, int] | None:
    """Scale and zero point with which a pixel u becomes u - 128; None if there are none, as the
    function is no straight line that rises, or not the same for all pixels."""
    values = {leaf: torch.arange(256, dtype=torch.uint8)}

    def value(node: Any) -> Any:
        if node.op == "get_attr":
            return constant(node).reshape(-1) if constant(node).numel() == 1 else None
        if node not in values:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), value)
            if any(value(i) is None for i in node.all_input_nodes):
                return None
            values[node] = node.target(*args, **kwargs)
        return values[node]

    with torch.no_grad():
        y = value(end)
    if y is None:
        return None
    first, scale = float(y[0]), float(y[255] - y[0]) / 255
    line = first + scale * torch.arange(256, dtype=torch.float64)
    if not scale > 0 or float((y - line).abs().max()) > _STRAIGHT * scale:
        return None
    scale = float(torch.tensor(scale, dtype=torch.float32))
    zero = round(-128 - first / scale)
    return (scale, zero) if -128 <= zero <= 127 else None
