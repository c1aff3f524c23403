# SPDX-License-Identifier: Apache-2.0
"""2-D convolution with weights of 4 bits, or of 8 bits and an image of more; channels last inside.

The products of an output come in segments, each with a multiplier of its own: the scale of its
weights; or no more of the sum than fits 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Trace
from emx.quant import Quant
from emx.sample import P, Q, Sample, W, X
from emx.window import Column, Layout, Pixels, Window, window_traces

BLOCK = 4  # outputs; of a depthwise convolution also channels
_WIDE = 1 << 62  # of sums of 64 bits
_COST = {1: 4, 2: 3, 4: 6}  # instructions of a product, by the bytes of an element


@dataclass(frozen=True)
class Conv2dMixed(Op):
    """Inputs x [n][h][w][c] ([n][c][h][w] if channels_first) and w s8 [o][c/groups][kh][kw], of
    which an output has all in segments. Padding adds nothing.

    Of integers, s8 or s16, with x and y as they say: b s64 [o], m s32 [segments][o], shift s32 [o];
        y = clamp(floor((b + sum_s m[s] * sum (x - x.zero) * w) / 2^shift + 1/2) + y.zero, lo, hi)
    Of floats, where x and y are None: b f32 [o], m f32 [segments][o];
        y = clamp(b + sum_s m[s] * sum x * w, lo, hi)
    """

    name: ClassVar[str] = "conv2d_mixed"
    window: Window
    groups: int
    x: Quant | None
    y: Quant | None
    lo: float
    hi: float
    channels_first: bool = False

    def layout(self, x: TensorType) -> Layout:
        if self.channels_first:
            n, c, h, w = x.dims
            return Layout.channels_first(n, h, w, c)
        return Layout.channels_last(*x.dims)

    def infer(self, *types: TensorType) -> TensorType:
        image = self.layout(types[0])
        out = self.window.out(image.height, image.width)
        return TensorType((image.batch, *out, types[1].dims[0]), types[0].dtype)

    def macs(self, node: Node) -> int:
        return node.output.type.size * prod(node.inputs[1].type.dims[1:])

    def reference(self, *arrays: Array) -> Array:
        x, w, b, m, *shifts = arrays
        if self.channels_first:
            x = x.transpose(0, 2, 3, 1)
        if self.x is None or self.y is None:
            return np.asarray(np.clip(b + self._sums(x, w, m), self.lo, self.hi))
        (shift,) = (s.astype(np.int64) for s in shifts)
        v = b + self._sums(x.astype(np.int64) - self.x.zero, w, m)
        y = ((v + (np.int64(1) << (shift - 1))) >> shift) + self.y.zero
        return np.asarray(np.clip(y, self.lo, self.hi), self.y.dtype.numpy)

    def _sums(self, x: Array, w: Array, m: Array) -> Array:
        """sum_s m[s] * (the products of segment s), computed in the type of x."""
        taps = [tap for _, _, tap in self.window.taps(x, 0)]
        split = [t.reshape(*t.shape[:3], self.groups, -1) for t in taps]
        windows = np.concatenate(split, axis=-1)  # [n][oh][ow][groups][products]
        rows = products(w).astype(x.dtype).reshape(self.groups, -1, windows.shape[-1])
        y = np.zeros((), x.dtype)
        for k, factors in zip(segments(windows.shape[-1], len(m)), m.astype(x.dtype), strict=True):
            part = np.einsum("...gk,gok->...go", windows[..., k], rows[..., k])
            y = y + part.reshape(*part.shape[:3], -1) * factors
        return np.asarray(y)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        w, *parameters = (constants[v.name] for v in node.inputs[1:])
        x, size = self.layout(node.inputs[0].type), node.output.type.dtype.bytes
        out_h, out_w = self.window.out(x.height, x.width)
        depth, count = prod(w.shape[1:]), len(parameters[1])
        each = self.groups == x.channels == len(w) > 1
        part = (BLOCK, BLOCK) if each else (x.channels // self.groups, len(w) // self.groups)
        linear = self.window == Window((1, 1)) and part == (x.channels, len(w)) and x.chan == 1
        packed = 1 if each else self.groups
        integers = self.x and self.y
        rows = self._integers(w, *parameters) if integers else (parameters[0][None], parameters[1])
        return Kernel(
            header="conv2d_mixed",
            function="emx_linear_mixed" if linear else "emx_conv2d_mixed",
            inputs={"x": 0},
            params={
                "batch": x.batch, "in_h": x.height, "in_w": x.width, "in_c": x.channels,
                "out_h": out_h, "out_w": out_w, "out_c": len(w), **self.window.params(),
                "x_row": x.row, "x_col": x.col, "x_chan": x.chan,
                "part_in": part[0], "part_out": part[1], "each": int(each),
                "depth": depth, "segment": -(-depth // count), "segments": count,
                "size": size, "bits": bits_of(w),
                "x_zero": self.x.zero if self.x else 0, "zero": self.y.zero if self.y else 0,
                "lo": self.lo, "hi": self.hi,
            },
            key=("each", "size", "bits"),
            weights={"w": _packed(w, packed), "q": _blocks(rows, packed)},
            scratch_bytes=0 if linear else prod(w.shape[2:]) * part[0] * size,
            overlap={"x": self._trace(x, part, BLOCK if linear else part[1], len(w), size)},
            types={"w": "uint8_t", "q": "int32_t"},
            cost=_COST[size] * self.macs(node),
        )  # fmt: skip

    def _trace(self, x: Layout, part: tuple[int, int], step: int, outputs: int, size: int) -> Trace:
        """Pixel by pixel: for `step` outputs, all inputs of their part are read first."""
        columns = [
            Column(o, min(o + step, outputs), c, min(c + part[0], x.channels))
            for o in range(0, outputs, step)
            for c in (o // part[1] * part[0],)
        ]
        width = self.window.out(x.height, x.width)[1]
        tiles = [Pixels(ox, 1, columns) for ox in range(width)]
        return window_traces(self.window, x, tiles, size)[0]

    def _integers(self, w: Array, b: Array, m: Array, shift: Array) -> tuple[Array, ...]:
        """The rows of parameters: b with the zero point folded in, shift, m. Unsupported if a sum
        might overflow."""
        assert self.x
        most = -int(np.iinfo(self.x.dtype.numpy).min)
        terms = products(w).astype(np.int64)
        spans = [terms[:, k] for k in segments(terms.shape[1], len(m))]
        sizes = np.array([most * np.abs(span).sum(axis=1) for span in spans])
        offsets = [span.sum(axis=1) * row for span, row in zip(spans, m, strict=True)]
        b = b - self.x.zero * np.sum(offsets, axis=0)
        # In floats: near the limit, 2^-50 of it does not matter.
        bound = np.abs(b) + (sizes * np.abs(m.astype(np.float64))).sum(axis=0) + 2.0**shift
        if sizes.max(initial=0) >= 1 << 31 or bound.max(initial=0) >= _WIDE:
            raise Unsupported(
                f"a sum of {terms.shape[1]} products may overflow 64 bits",
                "keep this layer in float, or split its inputs",
            )
        return b[None], shift[None], m


def bits_of(w: Array) -> int:
    """Bits in which the kernel has the weights."""
    return 4 if w.min(initial=0) >= -8 and w.max(initial=0) <= 7 else 8


def segments(size: int, count: int) -> list[slice]:
    """Of `size` products, all of one length but the last; there may be fewer than `count`."""
    step = -(-size // count)
    return [slice(at, min(at + step, size)) for at in range(0, size, step)]


def products(w: Array) -> Array:
    """[o][c][kh][kw] -> [o][products] in their order: ky, kx, c."""
    return np.moveaxis(w, 1, -1).reshape(len(w), -1)


def _packed(w: Array, parts: int) -> Array:
    """uint8 [parts][blocks][products][bytes of four weights]."""
    rows = products(w)
    rows = rows.reshape(parts, -1, rows.shape[1])
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK), (0, 0)))
    blocks = rows.reshape(parts, -1, BLOCK, rows.shape[2]).swapaxes(2, 3)
    bits = np.ascontiguousarray(blocks).view(np.uint8)
    return bits if bits_of(w) == 8 else bits[..., ::2] & 15 | bits[..., 1::2] << 4


def _blocks(rows: tuple[Array, ...], parts: int) -> Array:
    """[n][outputs] each, of 32 or 64 bits -> int32 [parts][blocks][words]: the four elements of one
    row, then of the next."""
    found = []
    for row in rows:
        split = row.reshape(len(row), parts, -1)
        filled = np.pad(split, ((0, 0), (0, 0), (0, -split.shape[2] % BLOCK)))
        blocks = filled.reshape(len(row), parts, -1, BLOCK).transpose(1, 2, 0, 3)
        words = np.ascontiguousarray(blocks).view(np.int32)
        found.append(words.reshape(*blocks.shape[:2], -1))
    return np.concatenate(found, axis=2)


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.linear.default", X(3, 50), W(6, 50), P(6)),
    Sample("aten.linear.default", X(7), W(5, 7, hi=7)),
    Sample("aten.linear.default", Q(3, 50, zero=-9), W(6, 50, hi=7), P(6), y=(0.05, 4)),
    Sample(
        "aten.conv2d.default",
        Q(1, 3, 6, 7),
        W(5, 3, 3, 2, hi=7),
        P(5),
        [2, 1],
        [1, 0],
        y=(0.04, -3),
    ),
    Sample(
        "aten.conv2d.default",
        Q(1, 6, 6, 6),
        W(6, 1, 3, 3, hi=7),
        P(6),
        [1, 1],
        [1, 1],
        [1, 1],
        6,
        y=(0.03, 0),
    ),
    Sample("aten.conv2d.default", X(1, 3, 6, 7), W(5, 3, 3, 2), P(5), [2, 1], [1, 0]),
    Sample("aten.conv2d.default", X(2, 8, 5, 4), W(9, 8, 1, 1, hi=7), P(9)),
    Sample("aten.conv2d.default", X(1, 6, 6, 6), W(6, 1, 3, 3), P(6), [1, 1], [1, 1], [1, 1], 6),
    Sample(
        "aten.conv2d.default", X(1, 4, 6, 6), W(8, 2, 3, 3, hi=7), P(8), [1, 1], [1, 1], [1, 1], 2
    ),
)
