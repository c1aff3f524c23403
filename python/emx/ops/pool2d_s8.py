# SPDX-License-Identifier: Apache-2.0
"""Maximum or mean of int8 over a sliding window of each channel, channels last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Rows, Wishes
from emx.quant import Multiplier, Quant, requantise_even
from emx.rows import image_rows, window_rows
from emx.sample import Q, Sample
from emx.target import Target
from emx.window import Column, Layout, Pixels, Window, window_traces

BLOCK = 4  # channels that the kernel does at once
MAX_COUNTS = 16  # different numbers that the pixels of one layer divide by
MAX_TAPS = 1 << 23  # whose sum certainly fits 32 bits


@dataclass(frozen=True)
class Pool2dS8(Op):
    """Input x [n][h][w][c]. y = requantise_even(sum (x - x.zero)), divided as in Pool2d, or
    requantise_even(max x - x.zero); taps outside the image are left out."""

    name: ClassVar[str] = "pool2d_s8"
    window: Window
    mean: bool
    x: Quant
    y: Quant
    lo: int = -128
    hi: int = 127
    divisor: int = 0
    count_padding: bool = True

    def infer(self, *types: TensorType) -> TensorType:
        n, h, w, c = types[0].dims
        return TensorType((n, *self.window.out(h, w), c), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x = arrays[0].astype(np.int64)
        if self.mean:
            acc = np.sum([tap for _, _, tap in self.window.taps(x - self.x.zero, 0)], axis=0)
        else:
            acc = np.max([tap for _, _, tap in self.window.taps(x, -128)], axis=0) - self.x.zero
        counts = self._counts(x.shape[1], x.shape[2])
        found = {int(n): self._multiplier(int(n)) for n in np.unique(counts)}
        m = np.vectorize(lambda n: found[n].m, otypes=[np.int64])(counts)[..., None]
        shift = np.vectorize(lambda n: found[n].shift, otypes=[np.int64])(counts)[..., None]
        return requantise_even(acc, m, shift, self.y, self.lo, self.hi)

    def _counts(self, height: int, width: int) -> Array:
        """What the mean of each output pixel is divided by, [h][w]; 1 for the maximum."""
        counts = np.maximum(self.window.counts(height, width, self._limit()), 1)
        return counts if self.mean and not self.divisor else np.full_like(counts, self.divisor or 1)

    def _limit(self) -> tuple[int, int]:
        return (self.window.pad[0], self.window.pad[2]) if self.count_padding else (0, 0)

    def _multiplier(self, count: int) -> Multiplier:
        return Multiplier.of(self.x.scale / self.y.scale / count)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        n, h, w, c = node.inputs[0].type.dims
        _, out_h, out_w, _ = node.output.type.dims
        counts = [int(k) for k in np.unique(self._counts(h, w))]
        taps = self.window.kernel[0] * self.window.kernel[1]
        if len(counts) > MAX_COUNTS or taps > MAX_TAPS:
            raise Unsupported(
                f"int8 average pooling of {taps} taps by {len(counts)} different counts "
                "is not supported",
                "give it a divisor_override, or keep it in float",
            )
        factors = [self._multiplier(k) for k in counts]
        window, limit = self.window, self._limit()
        columns = [Column(i, min(i + BLOCK, c), i, min(i + BLOCK, c)) for i in range(0, c, BLOCK)]
        tiles = [Pixels(ox, 1, columns) for ox in range(out_w)]
        trace, _ = window_traces(window, Layout.channels_last(n, h, w, c), tiles, 1)
        return Kernel(
            header="pool2d_s8",
            function="emx_avgpool2d_s8" if self.mean else "emx_maxpool2d_s8",
            inputs={"x": 0},
            params={
                "batch": n, "in_h": h, "in_w": w, "channels": c, "out_h": out_h, "out_w": out_w,
                **window.params(),
                "divisor": self.divisor, "pad_limit_h": limit[0], "pad_limit_w": limit[1],
                "count": tuple(counts),
                "m": tuple(f.m for f in factors), "shift": tuple(f.shift for f in factors),
                "x_zero": self.x.zero, "zero": self.y.zero, "lo": self.lo, "hi": self.hi,
            },
            key=("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w",
                 "divisor", "count", "m", "shift"),
            overlap={"x": trace},
            types=dict.fromkeys("xy", "int8_t"),
            cost=node.output.type.size * (taps + 20),
        )  # fmt: skip

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        size = 2 if self.window.kernel[0] * self.window.kernel[1] <= 255 else 4
        sums = size * node.output.type.size if self.mean else 0
        whole = image_rows(node, constants, target, sums)
        same = ("pad_limit_h", "count", "m", "shift")
        return whole or window_rows(node, constants, target, wishes, same)


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.avg_pool2d.default", Q(1, 5, 4, 4), [2, 2], y=(0.04, 3)),
    Sample("aten.avg_pool2d.default", Q(1, 3, 5, 4, zero=7), [3, 3], [2, 1], [1, 1], False, False,
           y=(0.05, 0)),
    Sample("aten.max_pool2d.default", Q(1, 3, 5, 4, zero=7), [3, 3], [2, 2], [1, 1], y=(0.05, 7)),
)  # fmt: skip
