# SPDX-License-Identifier: Apache-2.0
"""The kernel of int8 layers that stage windows: convolutions, and linear layers of several rows
(runtime/include/emx/kernels/conv2d_s8.h)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emx.add_s8 import AddS8
from emx.ir import Array, Unsupported
from emx.kernel import Kernel, Param, Wishes
from emx.packing_s8 import BLOCK, STAGED, Packed, Weighted
from emx.quant import Multiplier, Quant
from emx.target import Target
from emx.window import Column, Layout, Pixels, Window, window_traces


@dataclass(frozen=True)
class DirectSkip:
    """A tensor that is added to the sums before they are rounded:

    y = scaled(acc, m, c, y, lo, hi, term) of emx.quant
    term = floor((skip - skip.zero) * M.m * 2^(shifts(m) - M.shift)), M = skip.scale / y.scale
    """

    skip: Quant
    y: Quant

    @property
    def multiplier(self) -> Multiplier:
        found = Multiplier.of(self.skip.scale / self.y.scale)
        if found.shift < 19:  # so that term is below 2^61
            raise Unsupported(
                f"a sum of scale {self.skip.scale:.3g} in steps of {self.y.scale:.3g}",
                "calibrate with samples that reach the range of the sum",
            )
        return found

    def term(self, skip: Array, shift: Array) -> Array:
        """int64, in units of 2^-shift of y's."""
        v = (skip.astype(np.int64) - self.skip.zero) * self.multiplier.m
        by = shift.astype(np.int64) - self.multiplier.shift
        return np.asarray(np.where(by >= 0, v << np.maximum(by, 0), v >> np.maximum(-by, 0)))


@dataclass(frozen=True)
class Direct:
    """A convolution of the image x, whose integers are as `quant` says, or 128 more if they are
    `unsigned`; y, lo and hi say what becomes of its sums, `skip` what of the node's last input, if
    it has the shape of y."""

    window: Window
    groups: int
    x: Layout
    quant: Quant
    y: Quant
    lo: int
    hi: int
    skip: AddS8 | DirectSkip | None = None
    unsigned: bool = False

    def kernels(self, layer: Weighted, target: Target, wishes: Wishes) -> Sequence[Kernel]:
        """The candidates, the fastest first."""
        direct = isinstance(self.skip, DirectSkip)
        compact = wishes.optimize == "size"
        packed = layer.packed(self.y, self.groups, target, compact=compact, plain=direct)
        return tuple(self._kernel(packed, len(layer.w), target, pixels) for pixels in (2, 1))

    def _kernel(self, layer: Packed, outputs: int, target: Target, pixels: int) -> Kernel:
        """Tiles of `pixels` pixels, 2 or 1."""
        x, out = self.x, self.window.out(self.x.height, self.x.width)
        pixels = min(pixels, out[1])
        runs = pixels == 2 and STAGED[target.dot] == 4 and x.chan == 1
        runs = runs and x.channels // self.groups % 4 == 0 and not self.unsigned
        params: dict[str, Param] = {
            "batch": x.batch, "in_h": x.height, "in_w": x.width, "in_c": x.channels,
            "out_h": out[0], "out_w": out[1], "out_c": outputs, **self.window.params(),
            "groups": self.groups, "x_row": x.row, "x_col": x.col, "x_chan": x.chan,
            "pixels": pixels, "depth": layer.depth, "contiguous": int(self._contiguous),
            "gather": int(self._gathers(target)),
            "inside": int(not any(self.window.pad)), "runs": int(runs), **layer.how,
            "flip": 128 * self.unsigned, "x_zero": self.quant.zero,
            "zero": self.y.zero, "lo": self.lo, "hi": self.hi, "skip": self._skip_params(),
        }  # fmt: skip
        image, skip = window_traces(self.window, x, self._tiles(pixels, out[1], outputs), 1)
        if isinstance(self.skip, DirectSkip):  # which is read block by block
            blocks = self._tiles(pixels, out[1], outputs, BLOCK)
            skip = window_traces(self.window, x, blocks, 1)[1]
        mode = _MODES[type(self.skip)]
        return Kernel(
            header="conv2d_s8",
            function="emx_conv2d_u8" if self.unsigned else f"emx_conv2d{mode}_s8",
            inputs={"x": 0, "skip": 5} if mode else {"x": 0},
            params=params,
            key=_KEY,
            weights={"w": layer.w, "q": layer.q},
            scratch_bytes=self._scratch(params, outputs, STAGED[target.dot]),
            overlap={"x": image, "skip": skip} if mode else {"x": image},
            types={**dict.fromkeys(("x", "skip", "w", "y"), "int8_t"), **_TYPES[self.unsigned]},
            variant=f"pixels={pixels}",
            cost=self._cost(layer.depth, out, outputs, target, pixels),
        )  # fmt: skip

    def _cost(
        self, depth: int, out: tuple[int, int], outputs: int, target: Target, pixels: int
    ) -> int:
        """Predicted instructions."""
        x, blocks = self.x, -(-outputs // self.groups // BLOCK)
        adds = 0 if self.skip is None else _ADD[target.dot] * outputs
        total = 0.0
        for n, tiles in ((2, out[1] // 2), (1, out[1] % 2)) if pixels == 2 else ((1, out[1]),):
            tile, staged, block, product = _COSTS[target.dot][n]
            each = tile + (staged + product * blocks) * depth + block * blocks
            total += tiles * (self.groups * each + n * adds)
        return int(x.batch * out[0] * total)

    @property
    def _contiguous(self) -> bool:
        x = self.x
        return x.col == x.channels and x.chan == self.window.dilation[1] == self.groups == 1

    def _gathers(self, target: Target) -> bool:
        """Whether a window has many short runs for whose elements a table of offsets is faster."""
        x, taps = self.x, self.window.kernel[0] * self.window.kernel[1]
        run = x.channels // self.groups * (self.window.kernel[1] if self._contiguous else 1)
        last = self.window.reach(0) * x.row + self.window.reach(1) * x.col + x.channels * x.chan
        short = x.chan != 1 or (taps > 1 and run <= _SHORT)
        return target.dot == "mve" and short and last < 1 << 16

    def _skip_params(self) -> tuple[int, ...]:
        if isinstance(self.skip, AddS8):
            return self.skip.params()
        if isinstance(self.skip, DirectSkip):
            by = self.skip.multiplier
            return (self.skip.skip.zero, by.m, by.shift, 0, 0, 0, 0)
        return (0,) * 7

    def _tiles(self, pixels: int, out_w: int, outputs: int, size: int = 0) -> list[Pixels]:
        """The tiles of a row; a column is a group, or up to `size` outputs of one."""
        inner, outer = self.x.channels // self.groups, outputs // self.groups
        columns = [
            Column(o, min(o + (size or outer), (g + 1) * outer), g * inner, (g + 1) * inner)
            for g in range(self.groups)
            for o in range(g * outer, (g + 1) * outer, size or outer)
        ]
        return [Pixels(ox, min(pixels, out_w - ox), columns) for ox in range(0, out_w, pixels)]

    def _scratch(self, params: dict[str, Param], outputs: int, staged: int) -> int:
        """The sum at the top of conv2d_s8.h."""
        pixels, depth, runs = (params[k] for k in ("pixels", "depth", "runs"))
        assert isinstance(pixels, int) and isinstance(depth, int)
        size = depth * (staged if pixels == 2 else 1)
        if pixels == 2 and staged == 4:
            zeros = self.x.channels // self.groups if any(self.window.pad) else 0
            size += zeros if runs else 2 * depth
        size += 2 * depth if params["gather"] else 0
        return size + (pixels * outputs // self.groups if isinstance(self.skip, AddS8) else 0)


_SHORT = 16  # bytes
_MODES = {AddS8: "_add", DirectSkip: "_direct", type(None): ""}

_TYPES = {False: {}, True: {"x": "uint8_t"}}

# Instructions of a tile of 2 or 1 pixels: for the tile; for an input of it, a block of outputs, and
# an input of a block. As measured on Cortex-M3, M4F and M55 with the networks of MLPerf Tiny.
_COSTS = {
    "generic": {2: (390, 6.4, 105, 17.0), 1: (130, 3.7, 70, 11.0)},
    "dsp": {2: (100, 7.7, 45, 6.0), 1: (70, 3.1, 30, 4.1)},
    "mve": {2: (62, 2.1, 27, 0.9), 1: (84, 1.1, 14, 0.6)},
}
_ADD = {"generic": 35, "dsp": 21, "mve": 7}  # and to add the skip to an output

# Constants of every instance.
_KEY = ("pixels", "contiguous", "gather", "inside", "runs", "tail", "twice", "words", "wide")
