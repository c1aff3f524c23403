# SPDX-License-Identifier: Apache-2.0
"""3-D convolution, direct or transposed, channels last inside; any stride, padding and groups.

y[n][oz][oy][ox][o] = clamp(b[o] + sum x[n][iz][iy][ix][c] * w[o][c][kz][ky][kx] (+ skip))
over the taps for which iz*spread = oz*stride + kz*dilation - pad has a solution, likewise iy, ix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import numpy as np

from emx.axis import Axis, convolve, reach, window_params
from emx.builder import Builder, Lowering, ints, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Param, Trace
from emx.sample import P, Sample, X


@dataclass(frozen=True)
class Conv3d(Op):
    """Inputs x [n][d][h][w][c], w [o][c/groups][kd][kh][kw], b [o], and skip of y's shape if
    `residual`."""

    name: ClassVar[str] = "conv3d"
    axes: tuple[Axis, Axis, Axis]
    groups: int = 1
    lo: float = -inf
    hi: float = inf
    residual: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        n, *extents, _ = types[0].dims
        out = tuple(a.out(e) for a, e in zip(self.axes, extents, strict=True))
        if min(out) < 1:
            raise Unsupported(
                f"the window of this convolution does not fit into {types[0]}",
                "use a larger input or more padding",
            )
        return TensorType((n, *out, types[1].dims[0]), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        x, w, b, *skip = arrays
        y = convolve(x, w, self.axes, self.groups)
        return np.clip(y + b + (skip[0] if skip else 0.0), self.lo, self.hi)

    def macs(self, node: Node) -> int:
        per_output = prod(node.inputs[1].type.dims[1:]) // prod(a.spread for a in self.axes)
        return node.output.type.size * per_output

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        n, d, h, width, c = node.inputs[0].type.dims
        _, out_d, out_h, out_w, out_c = node.output.type.dims
        w, b = (constants[v.name] for v in node.inputs[1:3])
        image, skip = self._traces(node.inputs[0].type, node.output.type)
        row = self.axes[2]
        params: dict[str, Param] = {
            "batch": n, "in_d": d, "in_h": h, "in_w": width, "in_c": c,
            "out_d": out_d, "out_h": out_h, "out_w": out_w, "out_c": out_c,
            **window_params(self.axes),
            "groups": self.groups, "tail": out_c // self.groups % 4,
            "contiguous": int(row.dilation == row.spread == self.groups == 1),
            "lo": self.lo, "hi": self.hi,
        }  # fmt: skip
        return Kernel(
            header="conv3d",
            function="emx_conv3d_add_f32" if self.residual else "emx_conv3d_f32",
            inputs={"x": 0, "skip": 3} if self.residual else {"x": 0},
            params=params,
            key=(*window_params(self.axes), "groups", "tail", "contiguous", "lo", "hi"),
            weights={"w": _pack(w, self.groups), "b": b},
            overlap={"x": image, "skip": skip} if self.residual else {"x": image},
        )  # fmt: skip

    def _traces(self, x: TensorType, y: TensorType) -> tuple[Trace, Trace]:
        """The order of the C: an event writes one pixel of one column of four channels. A tile
        reads its windows before the first of its writes; skip is read just before each write."""
        n, *extents, c = x.dims
        _, out_d, out_h, out_w, out_c = y.dims
        (z0, z1), (y0, y1), (x0, x1) = (
            reach(a, e) for a, e in zip(self.axes, extents, strict=True)
        )
        depth, filters = c // self.groups, out_c // self.groups
        columns = [
            (g * filters + o, g * filters + min(o + 4, filters), g * depth, (g + 1) * depth)
            for g in range(self.groups)
            for o in range(0, filters, 4)
        ]
        events = [
            (ox, i == 0, x0[tile[0]], x1[tile[-1]], *column)
            for tile in _tiles(self.axes[2], extents[2])
            for column in columns
            for i, ox in enumerate(tile)
        ]
        ox, first, left, right, out_lo, out_hi, in_lo, in_hi = np.array(events, np.int64).T
        image, oz, oy = (i[..., None] for i in np.indices((n, out_d, out_h)))
        read = (first == 1) & (left <= right) & (z0[oz] <= z1[oz]) & (y0[oy] <= y1[oy])
        start = image * prod(extents)
        corner = ((start + (z0[oz] * extents[1] + y0[oy]) * extents[2]) + left) * c + in_lo
        end = ((start + (z1[oz] * extents[1] + y1[oy]) * extents[2]) + right) * c + in_hi
        at = (((image * out_d + oz) * out_h + oy) * out_w + ox) * out_c
        lo, hi = ((np.where(read, v, 0) * 4).ravel() for v in (corner, end))
        write = (((at + out) * 4).ravel() for out in (out_lo, out_hi))
        w_lo, w_hi = write
        return Trace(lo, hi, w_lo, w_hi), Trace(w_lo, w_hi, w_lo, w_hi)


def _tiles(axis: Axis, extent: int) -> list[list[int]]:
    """The pixels of a row in the order of the C: four at once where all have the same taps."""
    inside, _ = axis.taps(extent)
    tiles = []
    for phase in range(axis.spread):
        ox = phase
        while ox < len(inside):
            end = ox + 3 * axis.spread
            same = end < len(inside) and inside[ox].any() and (inside[ox] == inside[end]).all()
            tiles.append([ox + i * axis.spread for i in range(4 if same else 1)])
            ox = tiles[-1][-1] + axis.spread
    return tiles


def _pack(w: Array, groups: int) -> Array:
    """[o][c][kd][kh][kw] -> [groups][ceil(o/groups / 4)][kd][kh][kw][c][4], zero-padded."""
    filters = len(w) // groups
    padded = np.zeros((groups, -(-filters // 4) * 4, *w.shape[1:]), w.dtype)
    padded[:, :filters] = w.reshape(groups, filters, *w.shape[1:])
    tiles = padded.reshape(groups, -1, 4, *w.shape[1:])
    return np.ascontiguousarray(tiles.transpose(0, 1, 4, 5, 6, 3, 2))


def _conv(
    b: Builder, x: Value, w: Value, bias: Value | None, axes: Sequence[Axis], groups: int
) -> Value:
    """Convolve x [n][c][d][h][w] or [c][d][h][w]."""
    require_f32(x)
    data = b.data(w, "the weight of a convolution")
    if bias is None:
        bias = b.constant(np.zeros(len(data), data.dtype), "bias", beside=w)
    b.data(bias, "the bias of a convolution")
    image = b.aten("aten.unsqueeze.default", x, 0) if x.type.rank == 4 else x
    last = b.aten("aten.permute.default", image, (0, 2, 3, 4, 1))
    y = b.node(Conv3d((axes[0], axes[1], axes[2]), groups), last, w, bias)
    y = b.aten("aten.permute.default", y, (0, 4, 1, 2, 3))
    return b.aten("aten.squeeze.dim", y, 0) if x.type.rank == 4 else y


def lower_conv3d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """Padding symmetric, or "same" or "valid"."""
    kernel, spread = weight.type.dims[2:], ints(dilation, 3)
    if isinstance(padding, str):  # the odd one of "same" goes to the end, as in PyTorch
        total = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel, strict=True)
        ]
        sides = [(t // 2, t - t // 2) for t in total]
    else:
        sides = [(p, p) for p in ints(padding, 3)]
    each = zip(kernel, ints(stride, 3), spread, sides, strict=True)
    axes = [Axis(k, s, d, 1, pad) for k, s, d, pad in each]
    return _conv(b, x, weight, bias, axes, groups)


def lower_conv_transpose3d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    """A convolution of the spread image with the mirrored kernel; weight [c][o/groups][...]."""
    w = b.data(weight, "the weight of a convolution")
    inner, kernel = len(w) // groups, w.shape[2:]
    mirrored = np.flip(w, (2, 3, 4)).reshape(groups, inner, *w.shape[1:]).swapaxes(1, 2)
    filters = b.permuted(weight, mirrored.reshape(-1, inner, *kernel))
    reach = [d * (k - 1) for d, k in zip(ints(dilation, 3), kernel, strict=True)]
    more = zip(reach, ints(padding, 3), ints(output_padding, 3), strict=True)
    pads = [(r - p, r - p + extra) for r, p, extra in more]
    each = zip(kernel, ints(dilation, 3), ints(stride, 3), pads, strict=True)
    axes = [Axis(k, 1, d, s, pad) for k, d, s, pad in each]
    return _conv(b, x, filters, bias, axes, groups)


ATEN: dict[str, Lowering] = {
    "aten.conv3d.default": lower_conv3d,
    "aten.conv3d.padding": lower_conv3d,
    "aten.conv_transpose3d.input": lower_conv_transpose3d,
}

_C, _T = "aten.conv3d.default", "aten.conv_transpose3d.input"

SAMPLES = (
    Sample(_C, X(1, 1, 1, 1, 1), P(1, 1, 1, 1, 1)),
    Sample(_C, X(1, 2, 3, 5, 9), P(5, 2, 3, 3, 3), P(5), [1], [1]),
    Sample(_C, X(2, 3, 4, 5, 10), P(4, 3, 2, 3, 3), P(4), [1, 2, 1], [0, 1, 2], [2, 1, 1], 1),
    Sample(_C, X(4, 3, 4, 9), P(6, 2, 1, 3, 2), None, [1, 1, 2], [0, 1, 0], [1, 2, 1], 2),
    Sample(_C, X(1, 3, 3, 4, 6), P(3, 1, 3, 3, 3), P(3), [1], [1], [1], 3),
    Sample("aten.conv3d.padding", X(1, 2, 3, 4, 7), P(3, 2, 2, 3, 4), P(3), [1], "same", [2]),
    Sample("aten.conv3d.padding", X(1, 2, 3, 4, 7), P(3, 2, 2, 3, 4), P(3), [1], "valid"),
    Sample(_T, X(1, 1, 1, 1, 1), P(1, 1, 1, 1, 1), None, [2, 1, 3]),
    Sample(_T, X(1, 3, 2, 3, 9), P(3, 5, 2, 2, 2), P(5), [2]),
    Sample(_T, X(2, 4, 2, 3, 5), P(4, 2, 3, 4, 3), P(4), [2, 1, 3], [1, 2, 0], [1, 0, 2], 2, [1]),
    Sample(
        _T, X(2, 2, 3, 6), P(2, 3, 2, 3, 3), P(3), [1, 2, 4], [0, 3, 1], [0, 1, 0], 1, [1, 3, 2]
    ),
    Sample(_T, X(1, 3, 2, 3, 5), P(3, 1, 2, 3, 2), P(3), [1, 2, 2], [0, 1, 0], [0], 3),
)
