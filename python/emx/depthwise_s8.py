# SPDX-License-Identifier: Apache-2.0
"""The kernels of depthwise int8 convolutions (runtime/include/emx/kernels/dwconv2d_s8.h)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from emx.ir import Array
from emx.kernel import Kernel, Offsets, Param, Trace, Wishes
from emx.packing_s8 import BLOCK, Weighted
from emx.quant import Quant
from emx.target import Target
from emx.window import Column, Layout, Pixels, Window, window_traces

POINTER = 8  # bytes, at most


@dataclass(frozen=True)
class Depthwise:
    """A layer with one filter for each channel of the image x, whose integers are as `quant` says;
    y, lo and hi say what becomes of its sums. y_row and y_col are steps of y in elements."""

    window: Window
    x: Layout
    quant: Quant
    y: Quant
    lo: int
    hi: int
    y_row: int
    y_col: int

    @staticmethod
    def of(window: Window, x: Layout, quant: Quant, y: Quant, lo: int, hi: int) -> Depthwise:
        """y lies channels last."""
        columns = window.out(x.height, x.width)[1]
        return Depthwise(window, x, quant, y, lo, hi, columns * x.channels, x.channels)

    def kernels(self, layer: Weighted, target: Target, wishes: Wishes) -> Sequence[Kernel]:
        """The candidates, the fastest first; none where the target has none. To save weights,
        parameters are compact where they are read once: channel by channel."""
        quick, compact = self.quick(layer), wishes.optimize == "size"
        plane = _PLANES[target.dot](self, quick)
        found = [self._by_channel(layer, plane, "rows", compact)] if plane.fits else []
        flipped = self._flipped()
        plane = _PLANES[target.dot](flipped, quick)
        if plane.fits and min(self.out) > 1:
            turned = replace(layer, w=layer.w.swapaxes(2, 3))
            found.append(flipped._by_channel(turned, plane, "columns", compact))
        if self.x.chan == 1 and not (found and compact):
            found.append(self._by_pixel(layer, target))
        return sorted(found, key=lambda k: k.cost)

    @property
    def out(self) -> tuple[int, int]:
        return self.window.out(self.x.height, self.x.width)

    @property
    def columns(self) -> int:
        """Columns of the padded image that taps touch."""
        return (self.out[1] - 1) * self.window.stride[1] + self.window.reach(1)

    @property
    def used(self) -> int:
        """Pixels of a row of x that taps touch."""
        return max(0, min(self.x.width, self.columns - self.window.pad[2]))

    def quick(self, layer: Weighted) -> bool:
        """Whether the target may take its quickest way, see runtime/include/emx/plane_s8.h."""
        w = self.window
        simple = w.kernel == (3, 3) and w.dilation == (1, 1) and max(w.stride) <= 2
        return simple and _folded(layer) and (self.lo, self.hi) == (-128, 127)

    def _flipped(self) -> Depthwise:
        """The same with columns for rows."""
        w, x = self.window, self.x
        window = Window(w.kernel[::-1], w.stride[::-1], w.dilation[::-1], w.pad[2:] + w.pad[:2])
        image = Layout(x.batch, x.width, x.height, x.channels, x.col, x.row, x.chan)
        return replace(self, window=window, x=image, y_row=self.y_col, y_col=self.y_row)

    def _kernel(
        self, layer: Weighted, function: str, variant: str, *, compact: bool = False
    ) -> Kernel:
        x, quick = self.x, self.quick(layer)
        short = layer.compact(self.y) if compact else None
        q = layer.params() if short is None else short
        params: dict[str, Param] = {
            "batch": x.batch, "in_h": x.height, "in_w": x.width, "channels": x.channels,
            "out_h": self.out[0], "out_w": self.out[1], **self.window.params(),
            "x_row": x.row, "x_col": x.col, "x_chan": x.chan,
            "y_row": self.y_row, "y_col": self.y_col,
            "tail": x.channels % BLOCK, "sixteen": 0, "words": q.shape[-1], "quick": int(quick),
            "folded": int(_folded(layer)), "wide": int(layer.wide), "x_zero": self.quant.zero,
            "zero": self.y.zero, "lo": self.lo, "hi": self.hi,
        }  # fmt: skip
        return Kernel(
            header="dwconv2d_s8",
            function=function,
            inputs={"x": 0},
            params=params,
            key=_KEY + (() if quick else _KEY_WINDOW),
            weights={"w": _pack(layer.w), "q": q},
            types=dict.fromkeys("xwy", "int8_t"),
            variant=variant,
        )

    def _by_channel(self, layer: Weighted, plane: _Plane, variant: str, compact: bool) -> Kernel:
        return replace(
            self._kernel(layer, "emx_dwconv2d_s8", variant, compact=compact),
            scratch_bytes=plane.scratch,
            overlap={"x": self._channel_trace(plane.rows)},
            cost=plane.cost,
        )

    def _by_pixel(self, layer: Weighted, target: Target) -> Kernel:
        c = self.x.channels
        columns = [Column(i, min(i + BLOCK, c), i, min(i + BLOCK, c)) for i in range(0, c, BLOCK)]
        tiles = [Pixels(ox, 1, columns) for ox in range(self.out[1])]
        taps = self.window.kernel[0] * self.window.kernel[1]
        each = _DIRECT[target.dot] * (2 if target.dot == "dsp" and taps % 3 else 1)
        pixel = 12 * taps + 25 + len(columns) * (taps * each + 30)
        kernel = self._kernel(layer, "emx_dwconv2d_direct_s8", "direct")
        if target.dot == "mve" and not layer.wide and _pairs_fit(layer.w):
            fours = c // 16 * 4
            pixel += 25 - fours * (taps * (each - 3) + 14)
            weights = {**kernel.weights, "w": _pack_by_sixteen(layer.w)}
            kernel = replace(kernel, params={**kernel.params, "sixteen": 1}, weights=weights)
        return replace(
            kernel,
            scratch_bytes=taps * POINTER + c,
            overlap={"x": window_traces(self.window, self.x, tiles, 1)[0]},
            cost=self.x.batch * self.out[0] * self.out[1] * pixel,
        )

    def _channel_trace(self, rows: int) -> Trace:
        """Image by image, channel by channel: all pixels of x that the next `rows` rows of y need
        and that are not staged yet, one by one; then the pixels of these rows."""
        x, (out_h, out_w) = self.x, self.out
        reads, writes = list[Offsets](), list[Offsets]()
        staged = 0
        for oy in range(0, out_h, rows):
            last, top = min(oy + rows, out_h) - 1, oy * self.window.stride[0]
            new = np.arange(max(staged, top), last * self.window.stride[0] + self.window.reach(0))
            staged = max(staged, int(new[-1]) + 1)
            inside = new[(new >= self.window.pad[0]) & (new < self.window.pad[0] + x.height)]
            pixels = _grid(inside - self.window.pad[0], x.row, self.used, x.col)
            done = _grid(np.arange(oy, last + 1), self.y_row, out_w, self.y_col)
            reads += [pixels, np.full(len(done), -1)]
            writes += [np.full(len(pixels), -1), done]
        read, write = np.concatenate(reads), np.concatenate(writes)
        image = np.arange(x.batch)[:, None, None]
        channel = np.arange(x.channels)[:, None]
        x_at = image * (x.height * x.width * x.channels) + channel * x.chan
        y_at = image * (out_h * out_w * x.channels) + channel
        return Trace(*_bytes(read, x_at), *_bytes(write, y_at))


def _grid(rows: Offsets, row: int, columns: int, col: int) -> Offsets:
    return np.asarray((rows[:, None] * row + np.arange(columns) * col).ravel())


def _bytes(at: Offsets, start: Offsets) -> tuple[Offsets, Offsets]:
    """The bytes [lo, hi) at `at` behind each start; nothing where `at` is -1."""
    lo = np.where(at < 0, 0, at + start).ravel()
    return lo, lo + np.broadcast_to(at >= 0, np.broadcast_shapes(at.shape, start.shape)).ravel()


def _folded(layer: Weighted) -> bool:
    """Whether left shifts are up to 8, and weights fit 16 bits after them."""
    most = np.abs(layer.w.astype(np.int64)).reshape(len(layer.w), -1).max(axis=1)
    return not layer.wide and bool(((layer.left <= 8) & (most << layer.left < 1 << 15)).all())


def _pack(w: Array) -> Array:
    """[c][1][kh][kw] -> [ceil(c/4)][kh*kw][4], zero-padded."""
    taps = prod(w.shape[1:])
    flat = np.pad(w.reshape(len(w), taps), ((0, -len(w) % BLOCK), (0, 0)))
    return np.ascontiguousarray(flat.reshape(-(-len(w) // BLOCK), BLOCK, taps).transpose(0, 2, 1))


def _pack_by_sixteen(w: Array) -> Array:
    """The same, but [kh*kw][16] of each sixteen channels."""
    whole = len(w) // 16 * 16
    flat = w[:whole].reshape(whole // 16, 16, w[0].size).transpose(0, 2, 1)
    return np.concatenate([flat.reshape(-1), _pack(w[whole:]).reshape(-1)])


def _pairs_fit(w: Array) -> bool:
    """Whether the products of taps 2 i and 2 i + 1 with any x have sums of 16 bits."""
    least = w.reshape(len(w), -1) == -128
    last = w[0].size // 2 * 2
    return not np.any(least[:, :last:2] & least[:, 1:last:2])


@dataclass(frozen=True)
class _Plane:
    """What the target's micro-kernels (arch/*_plane_s8.h) do with a layer: here the portable ones.

    rows     rows of y that are computed at once
    scratch  bytes
    cost     predicted instructions of the layer
    """

    layer: Depthwise
    quick: bool

    @property
    def fits(self) -> bool:
        return True

    @property
    def rows(self) -> int:
        return 1

    @property
    def scratch(self) -> int:
        return self.layer.window.reach(0) * self.layer.columns

    @property
    def cost(self) -> int:
        kernel = self.layer.window.kernel
        return self._cost(20, 70, 3, 90, 2.5 * kernel[0] * kernel[1] + 34)

    def _cost(self, channel: int, row: int, pixel: float, out_row: int, output: float) -> int:
        """Of a channel, of each row that is staged and each of its pixels, of a row of outputs and
        each output: as measured."""
        d = self.layer
        staged = (d.out[0] - 1) * d.window.stride[0] + d.window.reach(0)
        each = staged * (row + pixel * d.used) + d.out[0] * (out_row + output * d.out[1])
        return int(d.x.batch * d.x.channels * (channel + each))


class _DspPlane(_Plane):
    @property
    def scratch(self) -> int:
        window = self.layer.window
        weights = 10 if self.quick else self._words
        return 4 * (weights + window.reach(0) * -(-self.layer.columns // 2))

    @property
    def cost(self) -> int:
        if self.quick:
            return self._cost(50, 65, 2.5, 12, 14)
        each = self._words / (1 + self.layer.window.stride[1] % 2)  # of an output
        return self._cost(15 * self._words, 80, 4, 27, 8.5 * each + 12)

    @property
    def _words(self) -> int:
        """Words of weights, of outputs that start in an even column, and in an odd one."""
        w = self.layer.window
        reach = w.reach(1)
        return w.kernel[0] * ((reach + 1) // 2 + (reach // 2 + 1) * (w.stride[1] % 2))


class _MvePlane(_Plane):
    @property
    def fits(self) -> bool:
        d, window = self.layer, self.layer.window
        return window.reach(0) <= 4 and window.reach(1) <= 16 and 7 * d.x.col < 1 << 16

    @property
    def rows(self) -> int:
        return 2 if self.quick and self.layer.window.stride == (1, 1) else 1

    @property
    def scratch(self) -> int:
        filters, w = self._filters, self.layer.window
        return (20 if self.quick else 16 * filters) + 4 * (
            (self.layer.out[1] - 1) * w.stride[1] + 4 * filters
        )

    @property
    def cost(self) -> int:
        if self.quick:
            height = self.layer.out[0]
            pairs = -(-height // self.rows) * self.rows / height  # one row alone is computed twice
            return self._cost(218, 27, 0.65, 26 if self.rows == 2 else 58, 4.1 * pairs)
        return self._cost(160, 60, 0.65, 60, 12 + 6 * self._filters)

    @property
    def _filters(self) -> int:
        return -(-self.layer.window.reach(1) // 4)


_PLANES = {"generic": _Plane, "dsp": _DspPlane, "mve": _MvePlane}

# Measured instructions for each tap of four channels of a pixel. On Cortex-M4 there is assembly for
# taps in threes.
_DIRECT = {"generic": 25, "dsp": 12, "mve": 11}

# Constants of every instance, and of those that are not quick.
_KEY = (
    "kernel_h", "kernel_w", "dilation_h", "dilation_w", "tail", "sixteen", "words", "quick",
    "folded", "wide",
    "lo", "hi",
)  # fmt: skip
_KEY_WINDOW = ("stride_h", "stride_w")
