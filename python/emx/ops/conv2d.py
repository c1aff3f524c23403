# SPDX-License-Identifier: Apache-2.0
"""2-D convolution, channels last inside; any stride, padding, dilation and groups.

y[n][oy][ox][o] = clamp(b[o] + sum x[n][iy][ix][c] * w[o][c][ky][kx] (+ skip[n][oy][ox][o]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, pair, require_f32
from emx.ir import Array, Node, Op, TensorType, Value
from emx.kernel import Kernel, Param, Rows, Wishes
from emx.rows import window_rows
from emx.sample import P, Sample, X
from emx.target import Target
from emx.window import Column, Layout, Pixels, Tiling, Window, pad_columns, window_traces


@dataclass(frozen=True)
class Conv2d(Op):
    """Inputs x [n][h][w][c] ([n][c][h][w] if channels_first), w [o][c/groups][kh][kw], b [o], and
    skip of y's shape if `residual`."""

    name: ClassVar[str] = "conv2d"
    window: Window
    groups: int = 1
    lo: float = -inf
    hi: float = inf
    residual: bool = False
    channels_first: bool = False

    def layout(self, x: TensorType) -> Layout:
        if self.channels_first:
            n, c, h, w = x.dims
            return Layout.channels_first(n, h, w, c)
        return Layout.channels_last(*x.dims)

    def infer(self, *types: TensorType) -> TensorType:
        image = self.layout(types[0])
        out_h, out_w = self.window.out(image.height, image.width)
        return TensorType((image.batch, out_h, out_w, types[1].dims[0]), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, *skip = arrays
        if self.channels_first:
            x = x.transpose(0, 2, 3, 1)
        depth, filters = w.shape[1], w.shape[0] // self.groups
        y = np.zeros(())
        for ky, kx, tap in self.window.taps(x, 0.0):
            parts = [
                tap[..., g * depth : (g + 1) * depth]
                @ w[g * filters : (g + 1) * filters, :, ky, kx].T
                for g in range(self.groups)
            ]
            y = y + np.concatenate(parts, axis=-1)
        return np.clip(y + b + (skip[0] if skip else 0.0), self.lo, self.hi)

    def macs(self, node: Node) -> int:
        return node.output.type.size * prod(node.inputs[1].type.dims[1:])

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        x = self.layout(node.inputs[0].type)
        w, b = (constants[v.name] for v in node.inputs[1:3])
        depthwise = self.groups == x.channels == len(w) and not self.residual
        if depthwise and not self.channels_first:
            return self._depthwise(x, w, b, target.tile.lanes)
        return self._direct(x, w, b, target)

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return window_rows(node, constants, target, wishes)

    def _direct(self, x: Layout, w: Array, b: Array, target: Target) -> Kernel:
        window, x = _pointwise_as_row(self.window, x)
        out_h, out_w = window.out(x.height, x.width)
        depth, lanes = w.shape[1], target.tile.lanes
        tiling = Tiling(target.tile, edges=lanes > 4)
        image, skip = window_traces(window, x, self._tiles(tiling, window, x, w), 4)
        packed_row = x.col == x.channels and x.chan == window.dilation[1] == self.groups == 1
        zeros = depth if tiling.edges else 0
        params: dict[str, Param] = {
            "batch": x.batch, "in_h": x.height, "in_w": x.width, "in_c": x.channels,
            "out_h": out_h, "out_w": out_w, "out_c": len(w),
            **window.params(), "groups": self.groups, "tail": len(w) // self.groups % lanes,
            "x_row": x.row, "x_col": x.col, "x_chan": x.chan,
            "contiguous": int(packed_row), "edges": int(tiling.edges),
            "lo": self.lo, "hi": self.hi,
        }  # fmt: skip
        return Kernel(
            header="conv2d",
            function="emx_conv2d_add_f32" if self.residual else "emx_conv2d_f32",
            inputs={"x": 0, "skip": 3} if self.residual else {"x": 0},
            params=params,
            key=_KEY + _KEY_DIRECT + (("in_c",) if depth <= 4 else ()),
            weights={"w": _pack(w, self.groups, lanes), "b": pad_columns(b, lanes, zeros)},
            overlap={"x": image, "skip": skip} if self.residual else {"x": image},
        )  # fmt: skip

    def _tiles(self, tiling: Tiling, window: Window, x: Layout, w: Array) -> list[Pixels]:
        """The tiles of a row, each with the columns of all groups."""
        depth, filters = w.shape[1], len(w) // self.groups
        columns = {
            n: [
                Column(g * filters + lo, g * filters + hi, g * depth, (g + 1) * depth)
                for g in range(self.groups)
                for lo, hi in tiling.columns(n, filters)
            ]
            for n in range(1, tiling.tile.pixels + 1)
        }
        pixels = tiling.pixels(window, x.width, window.out(x.height, x.width)[1])
        return [Pixels(ox, n, columns[n]) for ox, n in pixels]

    def _depthwise(self, x: Layout, w: Array, b: Array, lanes: int) -> Kernel:
        out_h, out_w = self.window.out(x.height, x.width)
        ranges = [(c, min(c + lanes, x.channels)) for c in range(0, x.channels, lanes)]
        tiles = [Pixels(ox, 1, [Column(*r, *r) for r in ranges]) for ox in range(out_w)]
        image, _ = window_traces(self.window, x, tiles, 4)
        padded = np.pad(w[:, 0], ((0, -len(w) % lanes), (0, 0), (0, 0)))
        packed = padded.reshape(-1, lanes, *w.shape[2:]).transpose(0, 2, 3, 1)
        return Kernel(
            header="dwconv2d",
            function="emx_dwconv2d_f32",
            inputs={"x": 0},
            params={
                "batch": x.batch, "in_h": x.height, "in_w": x.width, "channels": x.channels,
                "out_h": out_h, "out_w": out_w, **self.window.params(),
                "tail": x.channels % lanes, "lo": self.lo, "hi": self.hi,
            },
            key=_KEY,
            weights={"w": packed, "b": pad_columns(b, lanes)},
            overlap={"x": image},
        )  # fmt: skip


# Constants of every instance; the extents of the image and the number of filters may vary.
_KEY = (
    "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "tail", "lo", "hi",
)  # fmt: skip

_KEY_DIRECT = ("groups", "x_chan", "contiguous", "edges")


def _pointwise_as_row(window: Window, x: Layout) -> tuple[Window, Layout]:
    """A 1x1 convolution sees the image as one row of pixels, which leaves fewer odd pixels."""
    if window != Window((1, 1)):
        return window, x
    pixels = x.height * x.width
    if x.col == x.channels:
        return window, Layout.channels_last(1, 1, x.batch * pixels, x.channels)
    return window, Layout.channels_first(x.batch, 1, pixels, x.channels)


def _pack(w: Array, groups: int, lanes: int) -> Array:
    """[o][c][kh][kw] -> [groups][ceil(o/groups / lanes)][kh][kw][c][lanes], zero-padded."""
    filters = len(w) // groups
    padded = np.zeros((groups, -(-filters // lanes) * lanes, *w.shape[1:]), w.dtype)
    padded[:, :filters] = w.reshape(groups, filters, *w.shape[1:])
    tiles = padded.reshape(groups, -1, lanes, *w.shape[1:])
    return np.ascontiguousarray(tiles.transpose(0, 1, 4, 5, 3, 2))


def lower_conv2d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """x [n][c][h][w] or [c][h][w]; padding symmetric, or "same" or "valid"."""
    require_f32(x)
    w = b.data(weight, "the weight of a convolution")
    if bias is None:
        bias = b.constant(np.zeros(len(w), w.dtype), "bias", beside=weight)
    b.data(bias, "the bias of a convolution")
    kernel = (w.shape[2], w.shape[3])
    window = Window(kernel, pair(stride), pair(dilation), _padding(padding, kernel, pair(dilation)))
    image = b.aten("aten.reshape.default", x, (1, *x.type.dims)) if x.type.rank == 3 else x
    last = b.aten("aten.permute.default", image, (0, 2, 3, 1))
    y = b.node(Conv2d(window, groups), last, weight, bias)
    y = b.aten("aten.permute.default", y, (0, 3, 1, 2))
    return b.aten("aten.reshape.default", y, y.type.dims[1:]) if x.type.rank == 3 else y


def _padding(
    padding: Sequence[int] | str, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":  # the odd one goes to the bottom and the right, as in PyTorch
        total = [dilation[a] * (kernel[a] - 1) for a in (0, 1)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    assert not isinstance(padding, str), padding
    h, w = pair(padding)
    return (h, h, w, w)


def lower_convolution(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """The general form that decompositions leave behind."""
    axes = weight.type.rank - 2
    if transposed:
        target = f"aten.conv_transpose{axes}d.{'default' if axes == 1 else 'input'}"
        return b.aten(target, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return b.aten(f"aten.conv{axes}d.default", x, weight, bias, stride, padding, dilation, groups)


ATEN: dict[str, Lowering] = {
    "aten.conv2d.default": lower_conv2d,
    "aten.conv2d.padding": lower_conv2d,
    "aten.convolution.default": lower_convolution,
}

SAMPLES = (
    Sample("aten.conv2d.default", X(1, 1, 1, 1), P(1, 1, 1, 1)),
    Sample("aten.conv2d.default", X(1, 1, 3, 3), P(5, 1, 3, 3), P(5), [2, 2], [1, 1]),
    Sample("aten.conv2d.default", X(3, 7, 9), P(6, 3, 3, 3), P(6), [1, 1], [1, 1], [1, 1], 1),
    Sample("aten.conv2d.default", X(2, 4, 7, 11), P(9, 4, 3, 5), P(9), [2, 3], [1, 2], [1, 1], 1),
    Sample("aten.conv2d.default", X(2, 3, 10, 9), P(4, 3, 3, 3), P(4), [1, 1], [2, 3], [2, 3], 1),
    Sample("aten.conv2d.default", X(1, 6, 8, 8), P(9, 2, 3, 3), P(9), [1, 1], [1, 1], [1, 1], 3),
    Sample("aten.conv2d.default", X(2, 5, 8, 7), P(5, 1, 3, 3), P(5), [1, 1], [1, 1], [1, 1], 5),
    Sample("aten.conv2d.default", X(1, 3, 9, 8), P(3, 1, 3, 3), P(3), [2, 2], [0, 1], [2, 1], 3),
    Sample("aten.conv2d.default", X(1, 4, 6, 6), P(8, 1, 3, 3), P(8), [1, 1], [1, 1], [1, 1], 4),
    Sample("aten.conv2d.default", X(2, 8, 5, 5), P(7, 8, 1, 1), P(7)),
    Sample("aten.conv2d.default", X(1, 8, 6, 6), P(4, 8, 1, 1), P(4), [2, 2], [0, 0], [1, 1], 1),
    Sample("aten.conv2d.default", X(1, 2, 2, 2), P(3, 2, 3, 3), P(3), [1, 1], [3, 3]),
    Sample("aten.conv2d.padding", X(1, 2, 6, 7), P(3, 2, 4, 2), P(3), [1, 1], "same"),
    Sample("aten.conv2d.padding", X(1, 2, 6, 7), P(3, 2, 4, 2), P(3), [2, 1], "valid"),
    Sample(
        "aten.convolution.default",
        X(1, 2, 5, 5), P(4, 2, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
    ),
    Sample(
        "aten.convolution.default",
        X(1, 2, 5), P(2, 3, 3), P(3), [2], [1], [1], True, [1], 1,
    ),
)  # fmt: skip
