# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: extents, NumPy views, and the order in which the C kernels touch memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emx.ir import Array, Unsupported
from emx.kernel import Offsets, Trace
from emx.target import Tile


@dataclass(frozen=True)
class Window:
    """A window over the two image axes; `pad` is (top, bottom, left, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)

    def params(self) -> dict[str, int]:
        """The window's fields in the parameter structs of the kernels."""
        axes = {"kernel": self.kernel, "stride": self.stride, "dilation": self.dilation}
        fields = {f"{k}_{a}": v for k, vs in axes.items() for a, v in zip("hw", vs, strict=True)}
        return {**fields, "pad_top": self.pad[0], "pad_left": self.pad[2]}

    def reach(self, axis: int) -> int:
        """Extent of the dilated window along an axis."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def out(self, height: int, width: int) -> tuple[int, int]:
        """Extents of the output for an image of this size."""
        full = (height + self.pad[0] + self.pad[1], width + self.pad[2] + self.pad[3])
        out = tuple((full[a] - self.reach(a)) // self.stride[a] + 1 for a in (0, 1))
        if min(out) < 1:
            raise Unsupported(
                f"a window of {self.reach(0)}x{self.reach(1)} does not fit "
                f"into an image of {full[0]}x{full[1]}",
                "use a larger input or more padding",
            )
        return out[0], out[1]

    def taps(self, x: Array, fill: float) -> Iterator[tuple[int, int, Array]]:
        """(ky, kx, x under that tap for every output pixel); x is [n][h][w][c]."""
        top, bottom, left, right = self.pad
        out_h, out_w = self.out(x.shape[1], x.shape[2])
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                y0, x0 = ky * self.dilation[0], kx * self.dilation[1]
                rows = slice(y0, y0 + (out_h - 1) * self.stride[0] + 1, self.stride[0])
                cols = slice(x0, x0 + (out_w - 1) * self.stride[1] + 1, self.stride[1])
                yield ky, kx, padded[:, rows, cols]

    def counts(self, height: int, width: int, limit: tuple[int, int]) -> Array:
        """How many taps of each output pixel are at most `limit` outside the image, [h][w]."""
        extents, out = (height, width), self.out(height, width)
        taps = [_taps(self, axis, out[axis]) for axis in (0, 1)]
        inside = [(t >= -limit[a]) & (t < extents[a] + limit[a]) for a, t in enumerate(taps)]
        return np.asarray(np.outer(inside[0].sum(axis=1), inside[1].sum(axis=1)))


@dataclass(frozen=True)
class Layout:
    """Where the elements of the image lie: extents, and steps in elements."""

    batch: int
    height: int
    width: int
    channels: int
    row: int
    col: int
    chan: int

    @staticmethod
    def channels_last(n: int, h: int, w: int, c: int) -> Layout:
        return Layout(n, h, w, c, w * c, c, 1)

    @staticmethod
    def channels_first(n: int, h: int, w: int, c: int) -> Layout:
        return Layout(n, h, w, c, w, 1, h * w)


@dataclass(frozen=True)
class Column:
    """Output channels [out_lo, out_hi) that are written together, from channels [in_lo, in_hi)."""

    out_lo: int
    out_hi: int
    in_lo: int
    in_hi: int


@dataclass(frozen=True)
class Tiling:
    """The order of a kernel made of tiles (runtime/include/emx/tile.h): the pixels of a row, the
    columns of outputs.

    edges  tiles may reach beyond the image, see kernels/conv2d.h
    wide   a tile of one pixel takes as many columns at once as its sums allow. Otherwise it is
           stated column by column, and the kernel may take any number at once: then it reads
           less often what it may have written over.
    """

    tile: Tile
    wide: bool = False
    edges: bool = False

    def pixels(self, window: Window, width: int, out_width: int) -> list[tuple[int, int]]:
        """(first pixel, pixels) along a row."""
        size, tiles, ox = self.tile.pixels, list[tuple[int, int]](), 0
        while ox < out_width:
            ix, left = ox * window.stride[1] - window.pad[2], out_width - ox
            last = ix + (size - 1) * window.stride[1] + window.reach(1) - 1
            whole = left >= size and ix >= 0 and last < width
            tiles.append((ox, min(left, size) if whole or (self.edges and left > 1) else 1))
            ox += tiles[-1][1]
        return tiles

    def columns(self, pixels: int, outputs: int) -> list[tuple[int, int]]:
        """Ranges of outputs that one tile of `pixels` pixels writes."""
        lanes = self.tile.lanes
        one = self.tile.vectors if self.wide else 1
        size = self.tile.vectors // self.tile.pixels if pixels > 1 else one
        ranges, at = list[tuple[int, int]](), 0
        while at < outputs:
            while size > 1 and at + size * lanes > outputs:
                size = max(1, size // 4)
            ranges.append((at, min(at + size * lanes, outputs)))
            at = ranges[-1][1]
        return ranges


def pad_columns(b: Array, lanes: int, zeros: int = 0) -> Array:
    """A bias, with zeros up to a whole column of outputs, and at least `zeros` of them."""
    return np.pad(b, (0, -(-(len(b) + zeros) // lanes) * lanes - len(b)))


@dataclass(frozen=True)
class Pixels:
    """One tile of a row: pixels [ox, ox + n), and its columns in the order of their writes."""

    ox: int
    n: int
    cols: Sequence[Column]


def window_traces(
    window: Window, x: Layout, tiles: Sequence[Pixels], size: int
) -> tuple[Trace, Trace]:
    """Traces of a kernel that goes image by image, row by row, tile by tile, column by column.

    An event is the write of one pixel of one column. A tile reads its windows before the first of
    its writes. Returns the trace for the image and that for a tensor of the output's shape which
    is read element by element just before it is overwritten (a residual). `size` is the bytes of
    an element.
    """
    out_h, out_w = window.out(x.height, x.width)
    out_c = tiles[-1].cols[-1].out_hi
    rows_lo, rows_hi = _reach(window, 0, x.height, out_h)
    cols_lo, cols_hi = _reach(window, 1, x.width, out_w)
    spans = [(cols_lo[t.ox : t.ox + t.n].min(), cols_hi[t.ox : t.ox + t.n].max()) for t in tiles]
    row = np.array(
        [
            (t.ox + i, i == 0, left, right, c.out_lo, c.out_hi, c.in_lo, c.in_hi)
            for t, (left, right) in zip(tiles, spans, strict=True)
            for c in t.cols
            for i in range(t.n)
        ],
        dtype=np.int64,
    ).T
    pixel, first, left, right, out_lo, out_hi, in_lo, in_hi = row
    image = np.arange(x.batch)[:, None, None]
    line = np.arange(out_h)[None, :, None]
    start = image * (x.height * x.width * x.channels)
    read_lo = start + rows_lo[line] * x.row + left * x.col + in_lo * x.chan
    read_hi = start + rows_hi[line] * x.row + right * x.col + (in_hi - 1) * x.chan + 1
    reads = (first == 1) & (left <= right) & (rows_lo[line] <= rows_hi[line])
    at = ((image * out_h + line) * out_w + pixel) * out_c
    write = _bytes(at + out_lo, size), _bytes(at + out_hi, size)
    read_lo, read_hi = np.where(reads, read_lo, 0), np.where(reads, read_hi, 0)
    return Trace(_bytes(read_lo, size), _bytes(read_hi, size), *write), Trace(*write, *write)


def _bytes(elements: Offsets, size: int) -> Offsets:
    return (elements * size).ravel()


def _reach(window: Window, axis: int, extent: int, out: int) -> tuple[Offsets, Offsets]:
    """First and last coordinate inside the image that each output reads (first > last: none)."""
    taps = _taps(window, axis, out)
    inside = (taps >= 0) & (taps < extent)
    lo = np.where(inside, taps, extent).min(axis=1)
    hi = np.where(inside, taps, -1).max(axis=1)
    return lo, hi


def _taps(window: Window, axis: int, out: int) -> Offsets:
    """The coordinates of the taps of each output, [out][kernel]."""
    corner = np.arange(out) * window.stride[axis] - window.pad[2 * axis]
    return corner[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]
