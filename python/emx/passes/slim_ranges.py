# SPDX-License-Identifier: Apache-2.0
"""What each int8 element of a graph can be, whatever the inputs are: the proofs of slimming.

Every operator here is monotone in each of its inputs, element by element, so its own reference on
the ends of the intervals gives the ends of the result's; padding is as exact as the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from emx.ir import Array, DType, Graph, Node, TensorType
from emx.ops.binary_s8 import BinaryS8
from emx.ops.concat import Concat
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.gather import Gather
from emx.ops.linear_s8 import LinearS8
from emx.ops.movement import Movement, Reshape
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.table_s8 import TableS8


@dataclass(frozen=True)
class Range:
    """lo <= element <= hi; int8 arrays of the tensor's shape."""

    lo: Array
    hi: Array

    @staticmethod
    def full(t: TensorType) -> Range:
        return Range(np.full(t.dims, -128, np.int8), np.full(t.dims, 127, np.int8))

    @property
    def ends(self) -> tuple[Array, Array]:
        return self.lo, self.hi

    @cached_property
    def known(self) -> Array:
        """Whether every element of a channel has one value; bool [channels]."""
        return np.asarray(_rows(self.lo == self.hi).all(axis=0))

    @cached_property
    def constant(self) -> Array:
        """Whether all elements of a channel have the same one value; bool [channels]."""
        return np.asarray(_rows(self.lo).min(axis=0) == _rows(self.hi).max(axis=0))

    @property
    def first(self) -> Array:
        """The value of each channel that is constant, int64 [channels]."""
        return np.asarray(_rows(self.lo)[0].astype(np.int64))


def ranges(graph: Graph) -> dict[str, Range]:
    """Of all int8 values, constants included."""
    found = {v.name: Range.full(v.type) for v in graph.inputs if v.type.dtype is DType.S8}
    found |= {k: Range(c, c) for k, c in graph.constants.items() if c.dtype == np.int8}
    for node in graph.nodes:
        y = node.output
        if y.type.dtype is DType.S8:
            x = [found.get(v.name) for v in node.inputs]
            found[y.name] = _range(node, x, graph.constants) or Range.full(y.type)
    return found


def _range(
    node: Node, found: Sequence[Range | None], constants: Mapping[str, Array]
) -> Range | None:
    """None where nothing is known."""
    op, x = node.op, [r for r in found if r is not None]
    if isinstance(op, Conv2dS8 | LinearS8):
        parameters = [constants.get(v.name) for v in node.inputs[1:5]]
        known = [p for p in parameters if p is not None]
        return _weighted(op, x, known) if len(known) == 4 else None
    if isinstance(op, TableS8):
        return _looked_up(x[0], x[1].lo) if node.inputs[1].name in constants else None
    if isinstance(op, Gather):
        index = constants.get(node.inputs[1].name)
        return None if index is None else Range(*(op.reference(e, index) for e in x[0].ends))
    if isinstance(op, BinaryS8):
        ends = [op.reference(a, b) for a in x[0].ends for b in x[1].ends]
        return Range(np.minimum.reduce(ends), np.maximum.reduce(ends))
    if isinstance(op, Pool2dS8 | ReduceS8 | Movement | Reshape | Concat) and len(x) == len(found):
        return Range(op.reference(*(r.lo for r in x)), op.reference(*(r.hi for r in x)))
    return None


def _weighted(op: Conv2dS8 | LinearS8, x: Sequence[Range], parameters: Sequence[Array]) -> Range:
    """The least sum takes each input's lower end where the weight is positive, its upper end
    where it is negative: one layer of twice the inputs, with the weights of either sign."""
    image, skip = x[0], x[2:]  # x[1] is the weight
    if isinstance(op, Conv2dS8) and op.channels_first:
        op = replace(op, channels_first=False)
        image = Range(*(end.transpose(0, 2, 3, 1) for end in image.ends))
    w, *rest = parameters
    signed = np.concatenate([np.maximum(w, 0), np.minimum(w, 0)], axis=1)
    groups = op.groups if isinstance(op, Conv2dS8) else 1

    def bound(positive: Array, negative: Array, *end: Array) -> Array:
        dims = positive.shape[:-1]
        parts = [a.reshape(*dims, groups, -1) for a in (positive, negative)]
        both = np.concatenate(parts, axis=-1).reshape(*dims, -1)
        return op.reference(both, signed, *rest, *end)

    return Range(
        bound(image.lo, image.hi, *(r.lo for r in skip)),
        bound(image.hi, image.lo, *(r.hi for r in skip)),
    )


def _looked_up(x: Range, table: Array) -> Range:
    """The least and largest entries between x.lo and x.hi."""
    entries = np.broadcast_to(table, (256, 256))  # [first][last], made a minimum over the range
    upper = np.triu(np.ones((256, 256), bool))
    least = np.minimum.accumulate(np.where(upper, entries, np.int8(127)), axis=1)
    most = np.maximum.accumulate(np.where(upper, entries, np.int8(-128)), axis=1)
    first, last = x.lo.astype(np.int64) + 128, x.hi.astype(np.int64) + 128
    return Range(least[first, last], most[first, last])


def _rows(a: Array) -> Array:
    """[positions][channels]; a scalar is one channel."""
    return a.reshape(-1, a.shape[-1] if a.ndim else 1)
