# SPDX-License-Identifier: Apache-2.0
"""Models that take uint8 images normalise them first. That, and quantising, is a table; where the
steps of the quantisation are those of the pixels, not even that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emx.ir import Array, DType, Graph, Node, Value
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.movement import Reshape
from emx.ops.pixels_s8 import PixelsS8
from emx.ops.quantize import Quantize
from emx.passes.rewrite import Edit, Rewriter, replaced
from emx.pointwise import Pointwise

_SHIFT = np.arange(-128, 128)


def fold_pixels(graph: Graph) -> Graph:
    """quantise(f(x)) of uint8 x => a table, where f is the same for all pixels, or for all of a
    channel."""
    return Rewriter(graph).apply(_fold)


def read_pixels(graph: Graph) -> Graph:
    """conv2d(x - 128) of uint8 x => a convolution that reads pixels."""
    return Rewriter(graph).apply(_read)


def _read(r: Rewriter, node: Node) -> Edit:
    op, x = node.op, node.inputs[0]
    if not isinstance(op, Conv2dS8) or op.add or op.direct:
        return None
    before = r.made_by(x)
    shaped = before if before and isinstance(before.op, Reshape) and r.only_use(x) else None
    made = r.made_by(shaped.inputs[0]) if shaped else before
    depthwise = op.groups > 1 and op.groups == op.layout(x.type).channels
    if made is None or not _is_shift(r, made) or depthwise:
        return None
    image = [r.inner(shaped.op, made.inputs[:1], shaped, None)] if shaped else []
    x = image[0].output if image else made.inputs[0]
    return [*image, replaced(node, replace(op, unsigned=True), (x, *node.inputs[1:]))]


def _is_shift(r: Rewriter, made: Node) -> bool:
    """Whether it makes pixels 128 less, for one reader."""
    table = r.data(made.inputs[1]) if isinstance(made.op, PixelsS8) else None
    return table is not None and np.array_equal(table, [_SHIFT]) and r.only_use(made.output)


def _fold(r: Rewriter, node: Node) -> Edit:
    if not isinstance(node.op, Quantize) or node.op.q.dtype is not DType.S8:
        return None
    cone = _Cone(r, node.inputs[0])
    if not cone.fits or cone.pixels is None:
        return None
    table = r.constant(f"{node.output.name}.table", node.op.q.quantise(cone.results()))
    return [replaced(node, PixelsS8(cone.axis, node.op.q), (cone.pixels, table))]


class _Cone:
    """The pointwise operators that lead to `v` from one uint8 value, `pixels`, and from constants,
    numbers or one for each of `channels` along `axis`. `fits`: there is nothing else."""

    def __init__(self, r: Rewriter, v: Value) -> None:
        self._r, self._v = r, v
        self.pixels: Value | None = None
        self.axis, self.channels = 0, 1
        self.fits = True
        self._read(v)

    def _read(self, v: Value) -> None:
        data, made = self._r.data(v), self._r.made_by(v)
        if data is not None:
            self._vary(data)
        elif made is not None and isinstance(made.op, Pointwise) and v.type.dtype is DType.F32:
            for x in made.inputs:
                self._read(x)
        else:
            image = v.type.dtype is DType.U8 and v.type.dims == self._v.type.dims
            self.fits &= image and self.pixels in (None, v)
            self.pixels = v

    def _vary(self, data: Array) -> None:
        axes = [i - data.ndim + self._v.type.rank for i, n in enumerate(data.shape) if n > 1]
        if axes:
            self.fits &= len(axes) == 1 and (self.channels == 1 or axes == [self.axis])
            self.axis, self.channels = axes[0], data.size

    def results(self) -> Array:
        """[channels][256], rounded to float32 step by step like PyTorch's."""
        with np.errstate(all="ignore"):
            return np.broadcast_to(self._value(self._v), (self.channels, 256))

    def _value(self, v: Value) -> Array:
        if v == self.pixels:
            return np.arange(256, dtype=np.uint8)
        data, made = self._r.data(v), self._r.made_by(v)
        if data is not None:
            return data.reshape(-1, 1).astype(
                np.float64 if data.dtype == np.float32 else data.dtype
            )
        assert made and isinstance(made.op, Pointwise)
        y = made.op.expr.evaluate(tuple(map(self._value, made.inputs)))
        return y.astype(np.float32).astype(np.float64)
