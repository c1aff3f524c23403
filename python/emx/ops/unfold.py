# SPDX-License-Identifier: Apache-2.0
"""The windows of an image as columns: [n][c][h][w] -> [n][c*kh*kw][windows]."""

from __future__ import annotations

from collections.abc import Sequence

from emx.builder import Builder, Lowering, ints
from emx.ir import Value
from emx.sample import Sample, X


def lower_im2col(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    top, left = ints(padding, 2)
    y = b.aten("aten.pad.default", x, [left, left, top, top]) if top or left else x
    rank = x.type.rank
    each = zip(
        (rank - 2, rank - 1), ints(kernel, 2), ints(dilation, 2), ints(stride, 2), strict=True
    )
    for axis, size, spread, step in each:
        y = _windows(b, y, axis, size, spread, step)
    *batch, c, out_h, out_w, kh, kw = y.type.dims
    first = len(batch)
    perm = (*range(first), *(first + i for i in (0, 3, 4, 1, 2)))
    y = b.aten("aten.permute.default", y, perm)
    return b.aten("aten.reshape.default", y, (*batch, c * kh * kw, out_h * out_w))


def _windows(b: Builder, x: Value, axis: int, size: int, spread: int, step: int) -> Value:
    """The windows along an axis; the elements of a window lie on a new last axis."""
    last = x.type.dims[axis] - (size - 1) * spread
    parts = [
        b.aten("aten.slice.Tensor", x, axis, t * spread, t * spread + last, step)
        for t in range(size)
    ]
    return b.aten("aten.stack.default", parts, -1)


ATEN: dict[str, Lowering] = {"aten.im2col.default": lower_im2col}

SAMPLES = (
    Sample("aten.im2col.default", X(1, 1, 1, 1), [1, 1], [1, 1], [0, 0], [1, 1]),
    Sample("aten.im2col.default", X(2, 3, 7, 6), [3, 2], [1, 1], [1, 0], [2, 1]),
    Sample("aten.im2col.default", X(2, 7, 6), [2, 3], [3, 2], [0, 2], [1, 2]),
)
