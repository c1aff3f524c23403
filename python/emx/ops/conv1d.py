# SPDX-License-Identifier: Apache-2.0
"""1-D convolution: a 2-D convolution over images of height 1."""

from __future__ import annotations

from collections.abc import Sequence

from emx.builder import Builder, Lowering, ints
from emx.ir import Value
from emx.sample import P, Sample, X


def lower_conv1d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """x [n][c][l] or [c][l]; padding symmetric, or "same" or "valid"."""
    w = b.data(weight, "the weight of a convolution")
    rows = b.permuted(weight, w[:, :, None, :])
    image = b.aten("aten.unsqueeze.default", x, -2)
    pad = padding if isinstance(padding, str) else (0, *ints(padding, 1))
    y = b.aten(
        "aten.conv2d.default", image, rows, bias,
        (1, *ints(stride, 1)), pad, (1, *ints(dilation, 1)), groups,
    )  # fmt: skip
    return b.aten("aten.squeeze.dim", y, -2)


ATEN: dict[str, Lowering] = {
    "aten.conv1d.default": lower_conv1d,
    "aten.conv1d.padding": lower_conv1d,
}

SAMPLES = (
    Sample("aten.conv1d.default", X(1, 1, 1), P(1, 1, 1)),
    Sample("aten.conv1d.default", X(2, 3, 9), P(5, 3, 3), P(5), [2], [1]),
    Sample("aten.conv1d.default", X(4, 10), P(6, 2, 3), P(6), [1], [2], [2], 2),
    Sample("aten.conv1d.default", X(1, 5, 8), P(5, 1, 4), None, [1], [0], [1], 5),
    Sample("aten.conv1d.padding", X(1, 3, 8), P(4, 3, 4), P(4), [1], "same", [2]),
    Sample("aten.conv1d.padding", X(1, 3, 8), P(4, 3, 4), P(4), [3], "valid"),
)
