# SPDX-License-Identifier: Apache-2.0
"""Maximum or mean over a sliding window of each channel, channels last inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, pair, require_f32
from emx.ir import Array, Node, Op, TensorType, Value
from emx.kernel import Kernel, Rows, Wishes
from emx.rows import image_rows, window_rows
from emx.sample import Sample, X
from emx.target import Target
from emx.window import Column, Layout, Pixels, Window, window_traces


@dataclass(frozen=True)
class Pool2d(Op):
    """Input x [n][h][w][c]. The mean divides by `divisor`, or where that is 0 by the taps inside
    the padded image (`count_padding`) or inside the image."""

    name: ClassVar[str] = "pool2d"
    window: Window
    mean: bool
    divisor: int = 0
    count_padding: bool = True
    lo: float = -inf
    hi: float = inf

    def infer(self, *types: TensorType) -> TensorType:
        n, h, w, c = types[0].dims
        return TensorType((n, *self.window.out(h, w), c), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        fill = 0.0 if self.mean else -np.inf
        taps = np.stack([tap for _, _, tap in self.window.taps(x, fill)])
        y = taps.sum(axis=0) / self._counts(x) if self.mean else taps.max(axis=0)
        return np.asarray(np.clip(y, self.lo, self.hi))

    def _counts(self, x: Array) -> Array:
        """What the mean of each output pixel is divided by; the window may end beyond the padded
        image, when the output's extent was rounded up."""
        if self.divisor:
            return np.full((1, 1, 1), self.divisor)
        return self.window.counts(x.shape[1], x.shape[2], self._limit())[..., None]

    def _limit(self) -> tuple[int, int]:
        return (self.window.pad[0], self.window.pad[2]) if self.count_padding else (0, 0)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        n, h, w, c = node.inputs[0].type.dims
        _, out_h, out_w, _ = node.output.type.dims
        columns = [Column(i, i + 1, i, i + 1) for i in range(c)]
        tiles = [Pixels(ox, 1, columns) for ox in range(out_w)]
        trace, _ = window_traces(self.window, Layout.channels_last(n, h, w, c), tiles, 4)
        window, limit = self.window, self._limit()
        return Kernel(
            header="pool2d",
            function="emx_avgpool2d_f32" if self.mean else "emx_maxpool2d_f32",
            inputs={"x": 0},
            params={
                "batch": n, "in_h": h, "in_w": w, "channels": c, "out_h": out_h, "out_w": out_w,
                **window.params(),
                "divisor": self.divisor, "pad_limit_h": limit[0], "pad_limit_w": limit[1],
                "lo": self.lo, "hi": self.hi,
            },
            key=("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w",
                 "divisor", "lo", "hi"),
            overlap={"x": trace},
        )  # fmt: skip

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        whole = image_rows(node, constants, target)
        return whole or window_rows(node, constants, target, wishes, same=("pad_limit_h",))


def _pool(b: Builder, x: Value, op: Pool2d) -> Value:
    """Pool x [n][c][h][w] or [c][h][w]."""
    image = x if x.type.rank == 4 else b.aten("aten.reshape.default", x, (1, *x.type.dims))
    y = b.node(op, b.aten("aten.permute.default", image, (0, 2, 3, 1)))
    y = b.aten("aten.permute.default", y, (0, 3, 1, 2))
    return y if x.type.rank == 4 else b.aten("aten.reshape.default", y, y.type.dims[1:])


def _window(
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Window:
    require_f32(x)
    size, step = pair(kernel), pair(stride or kernel)
    (top, left), spread = pair(padding), pair(dilation)
    window = Window(size, step, spread, (top, top, left, left))
    if not ceil_mode:
        return window
    extra = [
        _ceil_extra(x.type.dims[axis - 2], p, step[axis], window.reach(axis))
        for axis, p in ((0, top), (1, left))
    ]
    return Window(size, step, spread, (top, top + extra[0], left, left + extra[1]))


def _ceil_extra(extent: int, pad: int, stride: int, reach: int) -> int:
    """Rows to add at the end so that the last, partial window counts; as in PyTorch, that window
    must start inside the image or its leading padding."""
    out = -(-(extent + 2 * pad - reach) // stride) + 1
    if (out - 1) * stride >= extent + pad:
        out -= 1
    return max(0, (out - 1) * stride + reach - (extent + 2 * pad))


def lower_max_pool2d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Value:
    return _pool(b, x, Pool2d(_window(x, kernel, stride, padding, dilation, ceil_mode), mean=False))


def lower_max_pool2d_with_indices(b: Builder, *args: object, **kwargs: object) -> tuple[Value]:
    """The maxima; their indices, the second output, are not computed."""
    return (b.aten("aten.max_pool2d.default", *args, **kwargs),)


def lower_avg_pool2d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    window = _window(x, kernel, stride, padding, (1,), ceil_mode)
    return _pool(b, x, Pool2d(window, True, divisor_override or 0, count_include_pad))


def _adaptive(b: Builder, x: Value, size: Sequence[int | None], mean: bool) -> Value:
    """Windows of equal extent; those of different ones are the business of adaptive_pool.py."""
    require_f32(x)
    extents = x.type.dims[-2:]
    out = [s if s else e for s, e in zip(size, extents, strict=True)]
    if any(e % s for e, s in zip(extents, out, strict=True)):
        target = f"aten.adaptive_{'avg' if mean else 'max'}_pool3d.default"
        y = b.lower(target, b.aten("aten.unsqueeze.default", x, -3), (None, *out))
        return b.aten("aten.squeeze.dim", y[0] if isinstance(y, tuple) else y, -3)
    kernel = (extents[0] // out[0], extents[1] // out[1])
    return _pool(b, x, Pool2d(Window(kernel, kernel), mean))


def lower_adaptive_avg_pool2d(b: Builder, x: Value, size: Sequence[int | None]) -> Value:
    return _adaptive(b, x, size, mean=True)


def lower_adaptive_max_pool2d(b: Builder, x: Value, size: Sequence[int | None]) -> tuple[Value]:
    """The maxima; their indices, the second output, are not computed."""
    return (_adaptive(b, x, size, mean=False),)


ATEN: dict[str, Lowering] = {
    "aten.max_pool2d.default": lower_max_pool2d,
    "aten.max_pool2d_with_indices.default": lower_max_pool2d_with_indices,
    "aten.avg_pool2d.default": lower_avg_pool2d,
    "aten.adaptive_avg_pool2d.default": lower_adaptive_avg_pool2d,
    "aten.adaptive_max_pool2d.default": lower_adaptive_max_pool2d,
}

SAMPLES = (
    Sample("aten.max_pool2d.default", X(1, 1, 1, 1), [1, 1]),
    Sample("aten.max_pool2d.default", X(2, 3, 7, 9), [3, 2], [2, 2], [1, 1], [1, 1]),
    Sample("aten.max_pool2d.default", X(3, 8, 8), [2, 2]),
    Sample("aten.max_pool2d.default", X(1, 2, 9, 9), [3, 3], [1, 1], [1, 1], [2, 2]),
    Sample("aten.max_pool2d.default", X(1, 2, 8, 7), [3, 3], [2, 2], [1, 1], [1, 1], True),
    Sample("aten.avg_pool2d.default", X(1, 5, 8, 8), [8, 8]),
    Sample("aten.avg_pool2d.default", X(2, 3, 7, 9), [3, 3], [2, 2], [1, 1]),
    Sample("aten.avg_pool2d.default", X(2, 3, 7, 9), [3, 3], [2, 2], [1, 1], False, False),
    Sample("aten.avg_pool2d.default", X(1, 3, 8, 6), [3, 3], [2, 2], [1, 1], True, True),
    Sample("aten.avg_pool2d.default", X(1, 3, 8, 6), [3, 3], [2, 2], [1, 1], True, False),
    Sample("aten.avg_pool2d.default", X(1, 3, 6, 6), [2, 3], [2, 3], [0, 0], False, True, 5),
    Sample("aten.adaptive_avg_pool2d.default", X(1, 3, 6, 8), [1, 1]),
    Sample("aten.adaptive_avg_pool2d.default", X(1, 3, 6, 8), [3, 4]),
    Sample("aten.adaptive_avg_pool2d.default", X(2, 3, 6, 8), [4, 3]),
    Sample("aten.adaptive_max_pool2d.default", X(1, 3, 6, 8), [3, 4]),
    Sample("aten.adaptive_max_pool2d.default", X(3, 5, 7), [5, 4]),
    Sample("aten.max_pool2d_with_indices.default", X(1, 3, 6, 8), [2, 2]),
)
