# SPDX-License-Identifier: Apache-2.0
"""3-D pooling: 2-D pooling of each slice, then along the depth; maximum and mean allow that."""

from __future__ import annotations

from collections.abc import Sequence

from emx.builder import Builder, Lowering, ints
from emx.ir import Value
from emx.sample import Sample, X


def _in_two(
    b: Builder, target: str, x: Value, slices: tuple[object, ...], depth: tuple[object, ...]
) -> Value:
    """Call the 2-D `target` with `slices` on the images [h][w], then with `depth` on [d][h*w]."""
    volume = x if x.type.rank == 5 else b.aten("aten.unsqueeze.default", x, 0)
    n, c, d, h, w = volume.type.dims
    images = b.aten("aten.permute.default", volume, (0, 2, 1, 3, 4))
    y = b.aten(target, b.aten("aten.reshape.default", images, (n * d, c, h, w)), *slices)
    h, w = y.type.dims[2:]
    y = b.aten("aten.reshape.default", y, (n, d, c, h, w))
    y = b.aten("aten.permute.default", y, (0, 2, 1, 3, 4))
    y = b.aten(target, b.aten("aten.reshape.default", y, (n, c, d, h * w)), *depth)
    return b.aten("aten.reshape.default", y, (*x.type.dims[:-3], y.type.dims[2], h, w))


def lower_max_pool3d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Value:
    fields = [ints(v, 3) for v in (kernel, stride or kernel, padding, dilation)]
    slices = tuple(f[1:] for f in fields)
    depth = tuple((f[0], neutral) for f, neutral in zip(fields, (1, 1, 0, 1), strict=True))
    return _in_two(b, "aten.max_pool2d.default", x, (*slices, ceil_mode), (*depth, ceil_mode))


def lower_max_pool3d_with_indices(b: Builder, *args: object, **kwargs: object) -> tuple[Value]:
    """The maxima; their indices, the second output, are not computed."""
    return (b.aten("aten.max_pool3d.default", *args, **kwargs),)


def lower_avg_pool3d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean divides by the taps of the slice, then by those of the depth."""
    fields = [ints(v, 3) for v in (kernel, stride or kernel, padding)]
    slices = tuple(f[1:] for f in fields)
    depth = tuple((f[0], neutral) for f, neutral in zip(fields, (1, 1, 0), strict=True))
    rest = (ceil_mode, count_include_pad)
    return _in_two(
        b, "aten.avg_pool2d.default", x, (*slices, *rest, divisor_override),
        (*depth, *rest, 1 if divisor_override else None),
    )  # fmt: skip


ATEN: dict[str, Lowering] = {
    "aten.max_pool3d.default": lower_max_pool3d,
    "aten.max_pool3d_with_indices.default": lower_max_pool3d_with_indices,
    "aten.avg_pool3d.default": lower_avg_pool3d,
}

SAMPLES = (
    Sample("aten.max_pool3d.default", X(1, 1, 1, 1, 1), [1]),
    Sample("aten.max_pool3d.default", X(2, 3, 4, 5, 7), [2, 3, 3], [2, 1, 2], [1, 1, 0], [1], True),
    Sample("aten.max_pool3d.default", X(3, 5, 6, 7), [2, 1, 3], [1], [0], [2, 1, 2]),
    Sample("aten.max_pool3d_with_indices.default", X(1, 2, 4, 4, 6), [2, 2, 2]),
    Sample("aten.avg_pool3d.default", X(1, 2, 4, 4, 6), [4, 4, 6]),
    Sample("aten.avg_pool3d.default", X(2, 3, 4, 5, 7), [2, 3, 3], [2], [1, 1, 0], True, False),
    Sample("aten.avg_pool3d.default", X(2, 3, 4, 5, 7), [2, 3, 3], [2], [1, 1, 0], True, True),
    Sample("aten.avg_pool3d.default", X(3, 5, 6, 7), [2, 1, 3], [1], [0], False, True, 5),
)
