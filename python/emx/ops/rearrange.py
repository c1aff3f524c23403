# SPDX-License-Identifier: Apache-2.0
"""Repetition, moved axes, diagonals: made of reshapes, permutes, expansions and slices."""

from __future__ import annotations

from collections.abc import Sequence

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Value
from emx.sample import Sample, X


def lower_repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    """Each axis is laid out `repeats` times: [n] as [repeat][n]."""
    dims = (1,) * (len(repeats) - x.type.rank) + x.type.dims
    pairs = [p for n in dims for p in (1, n)]
    tiled = [p for r, n in zip(repeats, dims, strict=True) for p in (r, n)]
    y = b.aten("aten.expand.default", b.aten("aten.reshape.default", x, pairs), tiled)
    return b.aten("aten.reshape.default", y, [r * n for r, n in zip(repeats, dims, strict=True)])


def lower_repeat_interleave(
    b: Builder, x: Value, repeats: int, dim: int | None = None, output_size: int | None = None
) -> Value:
    x = b.aten("aten.reshape.default", x, (-1,)) if dim is None else x
    axis = axis_of(dim or 0, x.type.rank)
    head, tail = x.type.dims[: axis + 1], x.type.dims[axis + 1 :]
    y = b.aten("aten.unsqueeze.default", x, axis + 1)
    y = b.aten("aten.expand.default", y, (*head, repeats, *tail))
    return b.aten("aten.reshape.default", y, (*head[:-1], head[-1] * repeats, *tail))


def lower_movedim(b: Builder, x: Value, source: Sequence[int], target: Sequence[int]) -> Value:
    rank = x.type.rank
    moved = {axis_of(t, rank): axis_of(s, rank) for s, t in zip(source, target, strict=True)}
    rest = iter(a for a in range(rank) if a not in moved.values())
    return b.aten(
        "aten.permute.default", x, [moved[a] if a in moved else next(rest) for a in range(rank)]
    )


def lower_diagonal(b: Builder, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """Element i of the new last axis is x[i][i + offset] of the two axes."""
    i, j = axis_of(dim1, x.type.rank), axis_of(dim2, x.type.rank)
    rest = [a for a in range(x.type.rank) if a not in (i, j)]
    y = b.aten("aten.permute.default", x, [*rest, i, j])
    rows, cols = y.type.dims[-2:]
    count = max(0, min(rows + min(offset, 0), cols - max(offset, 0)))
    flat = b.aten("aten.reshape.default", y, (*y.type.dims[:-2], rows * cols))
    first = max(offset, 0) + max(-offset, 0) * cols
    last = first + (count - 1) * (cols + 1)
    return b.aten("aten.slice.Tensor", flat, -1, first, last + 1, cols + 1)


ATEN: dict[str, Lowering] = {
    "aten.repeat.default": lower_repeat,
    "aten.repeat_interleave.self_int": lower_repeat_interleave,
    "aten.movedim.intlist": lower_movedim,
    "aten.diagonal.default": lower_diagonal,
}

SAMPLES = (
    Sample("aten.repeat.default", X(2, 3), [3, 1, 2]),
    Sample("aten.repeat_interleave.self_int", X(2, 3), 2, 1),
    Sample("aten.repeat_interleave.self_int", X(2, 3), 3),
    Sample("aten.movedim.intlist", X(2, 3, 4), [0], [-1]),
    Sample("aten.diagonal.default", X(3, 4)),
    Sample("aten.diagonal.default", X(2, 3, 4), -1, 2, 1),
)
