# SPDX-License-Identifier: Apache-2.0
"""Transposed convolution in 1-D and 2-D: a convolution if the stride is 1, else the 3-D one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emx.builder import Builder, Lowering, ints
from emx.ir import Value
from emx.sample import P, Sample, X


def lower_conv_transpose(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    """x [n][c][h][w] or [n][c][l], or without n; weight [c][o/groups][...]."""
    w = b.data(weight, "the weight of a convolution")
    rank = w.ndim - 2
    steps, pads, spread = ints(stride, rank), ints(padding, rank), ints(dilation, rank)
    reach = [d * (k - 1) for d, k in zip(spread, w.shape[2:], strict=True)]
    inside = all(p <= r for p, r in zip(pads, reach, strict=True))
    if set(steps) == {1} and set(ints(output_padding, rank)) == {0} and inside:
        split = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, -1, *w.shape[1:])
        mirrored = split.swapaxes(1, 2).reshape(-1, len(w) // groups, *w.shape[2:])
        filters = b.permuted(weight, mirrored)
        pad = [r - p for r, p in zip(reach, pads, strict=True)]
        return b.aten(f"aten.conv{rank}d.default", x, filters, bias, steps, pad, spread, groups)
    flat = (1,) * (3 - rank)
    volume = b.aten("aten.reshape.default", x, (*x.type.dims[:-rank], *flat, *x.type.dims[-rank:]))
    filters = b.permuted(weight, w.reshape(*w.shape[:2], *flat, *w.shape[2:]))
    y = b.aten(
        "aten.conv_transpose3d.input", volume, filters, bias, (*flat, *steps),
        (*(0,) * len(flat), *pads), (*(0,) * len(flat), *ints(output_padding, rank)), groups,
        (*flat, *spread),
    )  # fmt: skip
    return b.aten("aten.squeeze.dims", y, tuple(range(-3, -rank)))


ATEN: dict[str, Lowering] = {
    "aten.conv_transpose1d.default": lower_conv_transpose,
    "aten.conv_transpose2d.input": lower_conv_transpose,
}

_1D, _2D = ATEN

SAMPLES = (
    Sample(_1D, X(1, 1, 1), P(1, 1, 1)),
    Sample(_1D, X(2, 3, 5), P(3, 4, 4), P(4), [2], [1]),
    Sample(_1D, X(4, 7), P(4, 3, 3), None, [3], [2], [1], 2, [2]),
    Sample(_1D, X(1, 3, 9), P(3, 2, 3), P(2)),
    Sample(_2D, X(1, 1, 1, 1), P(1, 1, 1, 1), P(1), [2, 2], [0, 0], [1, 1]),
    Sample(_2D, X(1, 3, 4, 9), P(3, 5, 2, 2), P(5), [2, 2]),
    Sample(_2D, X(2, 4, 5, 6), P(4, 6, 4, 4), P(6), [2, 2], [1, 1]),
    Sample(_2D, X(3, 4, 5), P(3, 4, 3, 2), P(4), [2, 3], [1, 0], [1, 2]),
    Sample(_2D, X(1, 4, 4, 5), P(4, 3, 3, 3), P(6), [2, 1], [1, 2], [1, 0], 2, [1, 2]),
    Sample(_2D, X(1, 6, 4, 5), P(6, 2, 3, 3), P(4), [1, 1], [1, 0], [0, 0], 2, [2, 1]),
    Sample(_2D, X(1, 2, 6, 7), P(2, 3, 2, 2), P(3), [1, 1], [2, 2]),
)
