# SPDX-License-Identifier: Apache-2.0
"""Pixels into channels and back, and channels among each other: a permute between two reshapes.

The permute leaves the channels last, as the layers around it have them.
"""

from __future__ import annotations

from math import prod

from emx.builder import Builder, Lowering
from emx.ir import Value
from emx.sample import Sample, X


def _move(
    b: Builder, x: Value, apart: tuple[int, ...], order: tuple[int, ...], dims: tuple[int, ...]
) -> Value:
    """x as `apart`, its axes in this order, then as `dims`: batch, image and channels, which become
    batch, channels and image."""
    y = b.aten("aten.reshape.default", x, apart)
    y = b.aten("aten.reshape.default", b.aten("aten.permute.default", y, order), dims)
    rank = len(dims)
    return b.aten("aten.permute.default", y, (0, rank - 1, *range(1, rank - 1)))


def lower_pixel_shuffle(b: Builder, x: Value, factor: int) -> Value:
    """[...][c*r*r][h][w] -> [...][c][h*r][w*r]"""
    *batch, c, h, w = x.type.dims
    n, c, r = prod(batch), c // factor**2, factor
    y = _move(b, x, (n, c, r, r, h, w), (0, 4, 2, 5, 3, 1), (n, h * r, w * r, c))
    return b.aten("aten.reshape.default", y, (*batch, c, h * r, w * r))


def lower_pixel_unshuffle(b: Builder, x: Value, factor: int) -> Value:
    """[...][c][h*r][w*r] -> [...][c*r*r][h][w]"""
    *batch, c, h, w = x.type.dims
    n, h, w, r = prod(batch), h // factor, w // factor, factor
    y = _move(b, x, (n, c, h, r, w, r), (0, 2, 4, 1, 3, 5), (n, h, w, c * r * r))
    return b.aten("aten.reshape.default", y, (*batch, c * r * r, h, w))


def lower_channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    """Channel g*(c/groups) + k goes to k*groups + g."""
    n, c, *image = x.type.dims
    rank = len(image)
    order = (0, *range(3, 3 + rank), 2, 1)
    return _move(b, x, (n, groups, c // groups, *image), order, (n, *image, c))


ATEN: dict[str, Lowering] = {
    "aten.pixel_shuffle.default": lower_pixel_shuffle,
    "aten.pixel_unshuffle.default": lower_pixel_unshuffle,
    "aten.channel_shuffle.default": lower_channel_shuffle,
}

SAMPLES = (
    Sample("aten.pixel_shuffle.default", X(1, 1, 1, 1), 1),
    Sample("aten.pixel_shuffle.default", X(2, 12, 3, 4), 2),
    Sample("aten.pixel_shuffle.default", X(9, 2, 3), 3),
    Sample("aten.pixel_shuffle.default", X(2, 2, 8, 3, 1), 2),
    Sample("aten.pixel_unshuffle.default", X(2, 3, 4, 6), 2),
    Sample("aten.pixel_unshuffle.default", X(2, 3, 6), 3),
    Sample("aten.channel_shuffle.default", X(2, 6, 3, 4), 3),
    Sample("aten.channel_shuffle.default", X(1, 8, 5), 2),
    Sample("aten.channel_shuffle.default", X(1, 4, 1, 2, 3), 2),
)
