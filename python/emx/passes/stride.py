# SPDX-License-Identifier: Apache-2.0
"""Pixels that nobody reads are not computed: strides rise from a convolution of one tap to those
before it. Each pixel that is left is what it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd

from emx.ir import DType, Graph, Node, Value
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.pool2d import Pool2d
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.table_s8 import TableS8
from emx.passes.rewrite import Rewriter
from emx.quant import Quant
from emx.window import Window

# Every how many rows and columns of an image.
Step = tuple[int, int]
Layer = Conv2d | Conv2dMixed | Conv2dS8

ALL = (1, 1)
_UNIT = Quant(1.0)
_EACH = Dequantize | Quantize | TableS8  # treat each element for itself


def raise_strides(graph: Graph) -> Graph:
    """A convolution that is read with a stride alone => one with that stride, and its readers
    without."""
    raising = _Raising(graph)
    return graph.with_nodes([n for node in graph.nodes for n in raising.of(node)])


class _Raising:
    """The nodes with fewer pixels. Values keep their names; what is left of one is no tensor of
    PyTorch's."""

    def __init__(self, graph: Graph) -> None:
        self._names = Rewriter(graph)
        self._read = _read(graph)
        self._left: dict[str, tuple[Value, Step]] = {}

    def of(self, node: Node) -> list[Node]:
        """The nodes that make what is read of the output of `node`."""
        op, (x, before) = node.op, self._found(node.inputs[0])
        step = before if isinstance(op, _EACH) else ALL
        if isinstance(op, Layer):
            step = self._read[node.output.name]
            stride = _over(_times(op.window.stride, step), before)
            op = replace(op, window=replace(op.window, stride=stride))
        if before == step == ALL:
            return [node]
        inputs, thinned = [x, *node.inputs[1:]], list[Node]()
        for i in _added(node):
            thinned += self._thinned(node, inputs[i], step)
            inputs[i] = thinned[-1].output if thinned else self._found(inputs[i])[0]
        y = node.output
        if step != ALL:
            y = Value(y.name, op.infer(*(v.type for v in inputs)))
            self._left[y.name] = y, step
        return [*thinned, Node(op, tuple(inputs), (y,), node.origin)]

    def _found(self, v: Value) -> tuple[Value, Step]:
        return self._left.get(v.name, (v, ALL))

    def _thinned(self, node: Node, v: Value, step: Step) -> list[Node]:
        """What is left of v, on pixels `step` apart: maxima of one pixel."""
        v, before = self._found(v)
        window = Window((1, 1), _over(step, before))
        if window.stride == ALL:
            return []
        integers = v.type.dtype is DType.S8
        op = Pool2dS8(window, False, _UNIT, _UNIT) if integers else Pool2d(window, False)
        return [self._names.inner(op, (v,), node, None)]


def _read(graph: Graph) -> Mapping[str, Step]:
    """The pixels of each value that somebody reads."""
    found = {v.name: ALL for v in graph.outputs}
    for node in reversed(graph.nodes):
        y = found.setdefault(node.output.name, ALL)
        for i, v in enumerate(node.inputs):
            a, b = found.get(v.name, (0, 0)), _read_by(node, i, y)
            found[v.name] = gcd(a[0], b[0]), gcd(a[1], b[1])
    return found


def _read_by(node: Node, i: int, y: Step) -> Step:
    """The pixels of operand i of which those of the output are made."""
    op = node.op
    if isinstance(op, _EACH) or i in _added(node):
        return y
    if i or not isinstance(op, Layer) or op.channels_first:
        return ALL
    one = op.window.kernel == (1, 1) and not any(op.window.pad)
    return _times(op.window.stride, y) if one else ALL


def _added(node: Node) -> range:
    """The operands of a convolution that are added to its output."""
    if not isinstance(node.op, Layer):
        return range(0)
    return range(3 if isinstance(node.op, Conv2d) else 5, len(node.inputs))


def _times(a: Step, b: Step) -> Step:
    return a[0] * b[0], a[1] * b[1]


def _over(a: Step, b: Step) -> Step:
    return a[0] // b[0], a[1] // b[1]
