# SPDX-License-Identifier: Apache-2.0
"""Operators made of simpler ones, where PyTorch's own decompositions leave them whole.

A write into a part of a tensor (x[:, 0] = y) arrives here as slice_scatter, select_scatter and
copy: the tensor is put together again from what is before, in and after the part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import decomposition_table as pytorch

aten = torch.ops.aten


def slice_scatter(
    x: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    length = x.shape[dim]
    places = range(length)[slice(start, end, step)]
    if step == 1:
        after = max(places.start, places.stop)
        parts = [x.narrow(dim, 0, places.start), src, x.narrow(dim, after, length - after)]
    else:
        rows, given = x.split(1, dim), iter(src.split(1, dim))
        parts = [next(given) if i in places else rows[i] for i in range(length)]
    return torch.cat([p for p in parts if p.shape[dim]] or [x], dim)


def select_scatter(x: Any, src: Any, dim: int, index: int) -> Any:
    index %= x.shape[dim]
    return slice_scatter(x, src.unsqueeze(dim), dim, index, index + 1)


def copy(x: Any, src: Any, non_blocking: bool = False) -> Any:
    return src.to(x.dtype).expand(x.shape)


def unfold(x: Any, dim: int, size: int, step: int) -> Any:
    """The windows' first elements, their second ones, and so on, beside each other."""
    if not x.dim():
        return x.expand(1)[:size]
    end = (x.shape[dim] - size) // step * step + 1
    return torch.stack([aten.slice(x, dim, i, i + end, step) for i in range(size)], -1)


def dist(x: Any, y: Any, p: float = 2) -> Any:
    return torch.linalg.vector_norm(x - y, p)


def cdist(x: Any, y: Any, p: float, mode: int | None) -> Any:
    return torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)


def table() -> dict[Any, Callable[..., Any]]:
    own: dict[Any, Callable[..., Any]] = {
        aten.slice_scatter.default: slice_scatter,
        aten.select_scatter.default: select_scatter,
        aten.copy.default: copy,
        aten.unfold.default: unfold,
        aten.dist.default: dist,
        aten._cdist_forward.default: cdist,
    }
    more = (
        aten._native_batch_norm_legit.no_stats,
        aten.grid_sampler_2d.default,
        aten.ldexp.Tensor,
    )
    return own | {op: pytorch[op] for op in more}
