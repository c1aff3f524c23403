# SPDX-License-Identifier: Apache-2.0
"""What the operators of a graph mean for its quantisation: which values become int8, which share
their scale, and which are only steps on the way to one that does.

Values are nodes of a torch.fx graph in which what depends on no input is a get_attr.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from emx.exporter.decompose import packet
from emx.exporter.quant_pixels import find_pixels
from emx.ops import logic, pointwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WEIGHTED = _words("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear")
_PRODUCTS = _words("matmul bmm mm")
_SUMS = _words("add sub mul")
_OWN = _words("""
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    mean sum softmax _softmax log_softmax _log_softmax layer_norm rms_norm
""")
_MOVES = _words("""
    alias clone contiguous detach dropout lift_fresh_copy _to_copy to
    reshape view _unsafe_view flatten unflatten squeeze unsqueeze permute transpose t movedim
    expand expand_as repeat repeat_interleave flip roll slice select narrow diagonal
    index_select gather index cat concat stack
    pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d
    pixel_shuffle pixel_unshuffle channel_shuffle
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    amax amin maximum minimum where masked_fill
""")
_CASTS = _words("_to_copy to")
_PARTS = _words("split split_with_sizes chunk unbind tensor_split")  # getitem takes each of them
_RECURRENT = _words("lstm gru")  # of whose results h is int8
_FIRST = _words("max_pool2d_with_indices max_pool3d_with_indices max min sort topk")  # or the first
_POINTWISE = frozenset(packet(name) for name in (*pointwise.ATEN, *logic.ATEN))
_CLAMPS = _words("relu relu6 hardtanh clamp clamp_min clamp_max")
NORMS = _words("batch_norm _native_batch_norm_legit_no_training")
_BOUNDED = _words("sigmoid tanh hardsigmoid softmax _softmax")
# Layers with weights, and what leaves numbers as they are.
PLAIN = WEIGHTED | _MOVES | _PARTS | _FIRST | _CLAMPS
# Larger numbers stand for infinity, such as those that mask a softmax.
_HUGE = 1e6


def name_of(node: Any) -> str:
    """The operator's name, without the underscore of those that work in place."""
    return packet(node.target).removesuffix("_") if node.op == "call_function" else ""


def is_float(node: Any) -> bool:
    """True for a float32 tensor."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def is_constant(node: Any) -> bool:
    return bool(node.op == "get_attr")


@dataclass
class Kinds:
    """The values of a graph. `constant` gives the tensor of a get_attr, `keeps_float` tells which
    nodes the user wants in float.

    operands   node -> the float values that it reads as int8; a float tensor that a node of these
               gives is int8 too, unless it is one of `steps`
    moves      node -> the operands whose elements its own are, but for constants
    scaled     node -> the positive number by which it multiplies its only operand
    steps      values on the way to one that is int8
    pixels     what images of uint8 become -> scale and zero point, if these are known
    """

    graph: Any
    constant: Callable[[Any], Any]
    keeps_float: Callable[[Any], bool]
    operands: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    moves: dict[Any, tuple[Any, ...]] = field(default_factory=dict)
    scaled: dict[Any, float] = field(default_factory=dict)
    steps: set[Any] = field(default_factory=set)
    pixels: dict[Any, tuple[float, int] | None] = field(default_factory=dict)
    _sources: dict[Any, Any] = field(default_factory=dict)
    _unbounded: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._find_unbounded()
        nodes = [
            n
            for n in self.graph.nodes
            if n.op == "call_function" and n not in self._unbounded and not self.keeps_float(n)
        ]
        found = find_pixels(nodes, lambda n: name_of(n) in _POINTWISE | _CASTS, self.constant)
        self.pixels = found.ends
        self.operands |= dict.fromkeys(found.ends, ())
        nodes = [n for n in nodes if n not in found.inside and n not in found.ends]
        self._find_functions([n for n in nodes if name_of(n) in _POINTWISE])
        for n in nodes:
            if n in self._sources:
                self._add_function(n, self._sources[n])
            else:
                self._add(n, name_of(n))

    def _find_unbounded(self) -> None:
        """Values that hold infinities or numbers that stand for them."""
        for n in self.graph.nodes:
            if is_constant(n):
                data = self.constant(n)
                floats = isinstance(data, torch.Tensor) and data.dtype.is_floating_point
                unbounded = floats and not bool((data.abs() < _HUGE).all())
            else:
                numbers = [a for a in (*n.args, *n.kwargs.values()) if isinstance(a, float)]
                huge = any(not abs(v) < _HUGE for v in numbers)
                unbounded = is_float(n) and name_of(n) not in _BOUNDED | _CLAMPS
                unbounded &= huge or not self._unbounded.isdisjoint(n.all_input_nodes)
            if unbounded:
                self._unbounded.add(n)

    # ---- Functions of one value, element by element ----

    def _find_functions(self, nodes: list[Any]) -> None:
        """Pointwise operators with one float source. Functions of functions are one, as long as
        nobody else reads what is between."""
        read: set[Any] = set()  # by others
        while True:
            self._sources = {}
            for n in nodes:
                sources = {self._source(i, read) for i in self._varying(n)}
                if len(sources) == 1 and is_float(source := sources.pop()):
                    self._sources[n] = source
            more = {n for n in self._sources if n not in read and not self._is_step(n)}
            if not more:
                self.steps |= self._sources.keys() - read
                return
            read |= more

    def _source(self, value: Any, read: set[Any]) -> Any:
        return self._sources.get(value, value) if value not in read else value

    def _is_step(self, node: Any) -> bool:
        return all(self._sources.get(u) is self._sources[node] for u in node.users)

    def _varying(self, node: Any) -> list[Any]:
        """The operands of a pointwise operator that are not single numbers."""
        tensors = node.all_input_nodes
        return [i for i in tensors if not is_constant(i) or self.constant(i).numel() != 1]

    def _add_function(self, node: Any, source: Any) -> None:
        reads = source in node.all_input_nodes and source not in self._unbounded | self.steps
        self.operands[node] = (source,) if reads else ()
        if node in self.steps or not is_float(node):
            return
        chain = self._chain(node, source)
        clamps = all(name_of(n) in _CLAMPS for n in chain)
        factor = _factor(node) if len(chain) == 1 and not clamps else 0.0
        scales = factor > 0 and name_of(source) not in _SUMS
        if (clamps or scales) and len(source.users) == 1 and self._has_own_scale(source):
            self.steps.add(source)
            self.operands[chain[-1]] = ()
        elif clamps and len(chain) == 1 and reads:
            self.moves[node] = (source,)
        elif factor > 0 and reads:
            self.scaled[node] = factor

    def _chain(self, node: Any, source: Any) -> list[Any]:
        """The operators that make `node` of `source`, the last ones first."""
        found = [node]
        for n in found:
            inputs = [i for i in n.all_input_nodes if i in self.steps and i not in found]
            found += [i for i in inputs if self._sources.get(i) is source]
        return found

    def _has_own_scale(self, source: Any) -> bool:
        """True for a result that need not be int8 itself if only its clamp, or a multiple, is."""
        if source.op != "call_function" or source.target is operator.getitem:
            return False
        return source not in self.moves and name_of(source) not in _BOUNDED | _MOVES

    # ---- All others ----

    def _add(self, node: Any, name: str) -> None:
        floats = tuple(i for i in node.all_input_nodes if is_float(i))
        varying = tuple(i for i in floats if not is_constant(i) and i not in self._unbounded)
        if node.target is operator.getitem:
            self._add_part(node)
        elif name in NORMS:
            self._add_norm(node)
        elif name in _PARTS | _FIRST:
            self.operands[node] = varying[:1]
        elif name in _RECURRENT:
            read = node.args[:2] if name == "gru" else node.args[:1]
            self.operands[node] = tuple(i for i in read if i in varying)
        elif not is_float(node) or not varying:
            if name in _OWN and is_float(node):
                self.operands[node] = ()
        elif name in _MOVES:
            self.operands[node], self.moves[node] = floats, varying
        elif name == "gru_cell":
            self.operands[node] = tuple(i for i in node.args[:2] if i in varying)
            self.moves[node] = tuple(i for i in node.args[1:2] if i in varying)
        elif name in _OWN or (name in WEIGHTED and is_constant(node.args[1])):
            self.operands[node] = varying
        elif name in _PRODUCTS | _SUMS and len(floats) == 2 and node.kwargs.get("alpha", 1) == 1:
            self.operands[node] = floats

    def _add_norm(self, node: Any) -> None:
        """In training a batch norm is a part of the layer before it."""
        layer = node.args[0]
        if is_float(node) and name_of(layer) in WEIGHTED and len(layer.users) == 1:
            self.steps.add(layer)
            self.operands[node] = ()

    def _add_part(self, node: Any) -> None:
        parent, index = node.args
        name = name_of(parent)
        if name in _RECURRENT and index < 2 and self.operands.get(parent):
            state = self.operands[parent][1:]
            alike = state or tuple(u for u in parent.users if u in self.operands)
            self.operands[node], self.moves[node] = (), alike[:1]
            return
        taken = name in _PARTS or (name in _FIRST and index == 0)
        if taken and is_float(node) and self.operands.get(parent):
            self.operands[node], self.moves[node] = (), self.operands[parent]


def _factor(node: Any) -> float:
    """c > 0 of x * c and x / c, else 0."""
    args, name = node.args, name_of(node)
    if len(args) != 2 or node.kwargs or name not in ("mul", "div"):
        return 0.0
    c = args[1]
    if not isinstance(c, int | float) or not 0 < c < math.inf:
        return 0.0
    return float(c) if name == "mul" else 1.0 / c
