# SPDX-License-Identifier: Apache-2.0
"""Strided views: how a kernel reads inputs, and writes its output, that are laid out otherwise.

A view says where in a tensor the elements lie that an operator works on; permutes, slices and
reshapes of its inputs become views, and move nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emx.ir import Array, Op, TensorType, Unsupported

MAX_BATCH = 3  # extents before the last two that a kernel loops over


@dataclass(frozen=True)
class View:
    """Element i of the view is element start + sum i[d] * steps[d] of a contiguous tensor."""

    dims: tuple[int, ...]
    steps: tuple[int, ...]
    start: int = 0

    @staticmethod
    def of(dims: Sequence[int], *moves: Callable[[Array], Array]) -> View | None:
        """What `moves` make of a contiguous tensor, one after the other; None if they copy."""
        memory = np.empty(dims, np.int8)
        x = memory
        for move in moves:
            x = move(x)
        start = x.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        if x.size == 0 or not np.may_share_memory(memory, x):
            return None
        steps = tuple(s if n > 1 else 0 for n, s in zip(x.shape, x.strides, strict=True))
        return View(x.shape, steps, start)

    def read(self, x: Array) -> Array:
        """The elements of x that the view has."""
        flat = np.ascontiguousarray(x).reshape(-1)[self.start :]
        strides = [s * x.itemsize for s in self.steps]
        return np.lib.stride_tricks.as_strided(flat, self.dims, strides)


@dataclass(frozen=True)
class Strided(Op):
    """Base of operators that work through views: `views` of the inputs, None or nothing for an
    input as it is, and `out`, where in a tensor of which dims the result goes."""

    views: tuple[View | None, ...] = ()
    out: tuple[tuple[int, ...], View] | None = None

    def viewed(self, i: int, t: TensorType) -> View:
        """How input i of type t is read."""
        found = self.views[i] if i < len(self.views) else None
        return found or whole(t.dims)

    def read(self, arrays: Sequence[Array]) -> list[Array]:
        return [
            self.viewed(i, TensorType(tuple(a.shape))).read(a) if a.size else a
            for i, a in enumerate(arrays)
        ]

    def written(self, result: Array) -> Array:
        """The output tensor that holds `result`."""
        if self.out is None:
            return result
        dims, view = self.out
        y = np.empty(dims, result.dtype)
        view.read(y)[...] = result
        return y

    def placed(self, dims: tuple[int, ...]) -> tuple[tuple[int, ...], View]:
        """Dims of the output tensor and the view of the result, which has `dims`, in it."""
        return self.out or (dims, whole(dims))


def whole(dims: tuple[int, ...]) -> View:
    """A contiguous tensor as it is."""
    steps = [int(np.prod(dims[i + 1 :], dtype=np.int64)) for i in range(len(dims))]
    return View(dims, tuple(s if n > 1 else 0 for n, s in zip(dims, steps, strict=True)))


def merged(dims: tuple[int, ...], axes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents and steps of the chosen axes of a contiguous tensor; neighbours are one, axes of
    extent 1 none."""
    steps = [int(np.prod(dims[i + 1 :], dtype=np.int64)) for i in range(len(dims))]
    extent: list[int] = []
    step: list[int] = []
    for i in axes:
        if dims[i] == 1:
            continue
        if step and step[-1] == steps[i] * dims[i]:
            extent[-1] *= dims[i]
            step[-1] = steps[i]
        else:
            extent.append(dims[i])
            step.append(steps[i])
    return tuple(extent), tuple(step)


def batch_loops(batch: tuple[int, ...], views: Sequence[View]) -> list[tuple[int, ...]]:
    """MAX_BATCH extents and, for every view, steps: the axes before the last two, broadcast to
    `batch`; neighbours that all views walk in one stride are one loop."""
    rank = len(batch)
    steps = [(0,) * (rank - len(v.dims) + 2) + v.steps[:-2] for v in views]
    loops: list[tuple[int, ...]] = []
    for n, *at in zip(batch, *steps, strict=True):
        if n == 1:
            continue
        if loops and all(a == n * s for a, s in zip(loops[-1][1:], at, strict=True)):
            loops[-1] = (loops[-1][0] * n, *at)
        else:
            loops.append((n, *at))
    if len(loops) > MAX_BATCH:
        raise Unsupported(f"{len(loops)} axes of matrices are not supported", "reshape before")
    missing = [(1,) + (0,) * len(views)] * (MAX_BATCH - len(loops))
    return list(zip(*missing, *loops, strict=True))
