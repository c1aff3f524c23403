# SPDX-License-Identifier: Apache-2.0
"""1-D pooling: 2-D pooling over images of height 1."""

from __future__ import annotations

from collections.abc import Sequence

from emx.builder import Builder, Lowering, ints
from emx.ir import Value
from emx.sample import Sample, X


def lower_max_pool1d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Value:
    y = b.aten(
        "aten.max_pool2d.default", b.aten("aten.unsqueeze.default", x, -2), (1, *ints(kernel, 1)),
        (1, *ints(stride or kernel, 1)), (0, *ints(padding, 1)), (1, *ints(dilation, 1)), ceil_mode,
    )  # fmt: skip
    return b.aten("aten.squeeze.dim", y, -2)


def lower_avg_pool1d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    y = b.aten(
        "aten.avg_pool2d.default", b.aten("aten.unsqueeze.default", x, -2), (1, *ints(kernel, 1)),
        (1, *ints(stride or kernel, 1)), (0, *ints(padding, 1)), ceil_mode, count_include_pad,
    )  # fmt: skip
    return b.aten("aten.squeeze.dim", y, -2)


ATEN: dict[str, Lowering] = {
    "aten.max_pool1d.default": lower_max_pool1d,
    "aten.avg_pool1d.default": lower_avg_pool1d,
}

SAMPLES = (
    Sample("aten.max_pool1d.default", X(1, 1, 1), [1]),
    Sample("aten.max_pool1d.default", X(2, 3, 9), [3], [2], [1], [1], True),
    Sample("aten.max_pool1d.default", X(3, 9), [2], [1], [0], [2]),
    Sample("aten.avg_pool1d.default", X(1, 2, 7), [7]),
    Sample("aten.avg_pool1d.default", X(2, 3, 9), [3], [2], [1], True, False),
    Sample("aten.avg_pool1d.default", X(3, 8), [2]),
)
