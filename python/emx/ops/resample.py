# SPDX-License-Identifier: Apache-2.0
"""Resizing along one axis: y[o][j][i] = sum_t x[o][index[j][t]][i] * w[j][t].

Upsampling in 1-D to 3-D, nearest, linear and cubic, is that for axis after axis, innermost first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, DType, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace
from emx.sample import Sample, X


@dataclass(frozen=True)
class Resample(Op):
    """Inputs x, index [out][taps], and w [out][taps] unless there is one tap; `axis` of x becomes
    `out` long. With one tap x may have any type."""

    name: ClassVar[str] = "resample"
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        dims = list(types[0].dims)
        dims[self.axis] = types[1].dims[0]
        return TensorType(tuple(dims), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        x, index, *weight = arrays
        taps = np.moveaxis(x, self.axis, -1)[..., index]
        y = (taps * weight[0]).sum(axis=-1) if weight else taps[..., 0]
        return np.moveaxis(y, -1, self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        dims = node.inputs[0].type.dims
        outer, inner = prod(dims[: self.axis]), prod(dims[self.axis + 1 :])
        tables = [constants[v.name] for v in node.inputs[1:]]
        index = tables[0]
        if node.output.type.dtype is not DType.F32:
            return _gather(outer, dims[self.axis], inner * node.output.type.dtype.bytes, index)
        return Kernel(
            header="resample",
            function="emx_resample_f32" if len(tables) == 2 else "emx_resample_nearest_f32",
            inputs={"x": 0},
            params={"outer": outer, "in": dims[self.axis], "out": len(index), "inner": inner,
                    "taps": index.shape[1]},
            key=("taps",),
            weights=dict(zip(("index", "w"), tables, strict=False)),
            overlap={"x": _trace(outer, dims[self.axis], inner, index)},
        )  # fmt: skip


def _gather(outer: int, extent: int, run: int, index: Array) -> Kernel:
    """Nearest elements of any type: rows picked by number."""
    return Kernel(
        header="gather",
        function="emx_gather",
        inputs={"x": 0},
        params={"outer": outer, "extent": extent, "run": run, "count": len(index), "index_size": 4},
        key=("index_size",),
        weights={"index": index},
    )


def _trace(outer: int, length: int, inner: int, index: Array) -> Trace:
    """Element after element: reads its taps, then writes it."""
    o, j, i = np.indices((outer, len(index), inner), np.int64).reshape(3, -1)
    low, high = index.min(axis=1).astype(np.int64), index.max(axis=1).astype(np.int64)
    read_lo, read_hi = ((o * length + at[j]) * inner + i for at in (low, high))
    y = np.arange(len(o)) * 4
    return Trace(read_lo * 4, read_hi * 4 + 4, y, y + 4)


# How PyTorch finds the source of output j: in float32, so that rounding is the same.
_Table = tuple[Array, Array | None]


def _ratio(length: int, out: int, scale: float | None) -> np.float32:
    return np.float32(1.0 / scale) if scale else np.float32(length) / np.float32(out)


def _nearest(length: int, out: int, scale: float | None, half: float) -> _Table:
    at = (np.arange(out, dtype=np.float32) + np.float32(half)) * _ratio(length, out, scale)
    return np.minimum(np.floor(at), length - 1).astype(np.int32)[:, None], None


def _between(length: int, out: int, scale: float | None, align: bool) -> Array:
    """The coordinate of each output in x, before it is limited to x."""
    j = np.arange(out, dtype=np.float32)
    if align:
        return np.asarray(j * np.float32((length - 1) / max(out - 1, 1)))
    return np.asarray((j + np.float32(0.5)) * _ratio(length, out, scale) - np.float32(0.5))


def _linear(length: int, out: int, scale: float | None, align: bool) -> _Table:
    at = np.maximum(_between(length, out, scale, align), np.float32(0))
    if length == out:
        at = np.arange(out, dtype=np.float32)
    first = np.minimum(np.floor(at), length - 1)
    part = np.clip(at - first, 0, 1)
    index = np.stack([first, np.minimum(first + 1, length - 1)], axis=1)
    return index.astype(np.int32), np.stack([1 - part, part], axis=1).astype(np.float32)


def _cubic(length: int, out: int, scale: float | None, align: bool) -> _Table:
    """Keys' convolution (1981) with a = -3/4; at the border the last element repeats."""
    at = _between(length, out, scale, align)
    t = at - np.floor(at)
    index = np.clip(np.floor(at)[:, None] + np.arange(-1, 3), 0, length - 1)
    a = np.float32(-0.75)

    def near(d: Array) -> Array:
        return np.asarray(((a + 2) * d - (a + 3)) * d * d + 1)

    def far(d: Array) -> Array:
        return np.asarray(((a * d - 5 * a) * d + 8 * a) * d - 4 * a)

    weights = np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], axis=1)
    return index.astype(np.int32), weights.astype(np.float32)


def _resize(b: Builder, x: Value, tables: Sequence[_Table]) -> Value:
    """Resize the last axes of x, each with its table; those that only repeat elements at last."""
    require_f32(x)
    first = x.type.rank - len(tables)
    times = [_times(*t, n) for t, n in zip(tables, x.type.dims[first:], strict=True)]
    for i in reversed(range(len(tables))):
        if not times[i]:
            index, w = tables[i]
            found = [b.constant(index, f"index_{i}")]
            found += [b.constant(w, f"weight_{i}")] if w is not None else []
            x = b.node(Resample(first + i), x, *found)
    x = _repeat(b, x, {first + i: n for i, n in list(enumerate(times))[-2:]})
    return _repeat(b, x, {first: times[0]}) if len(times) > 2 else x


def _times(index: Array, w: Array | None, length: int) -> int:
    """n if every element of the axis is repeated n times, else 0."""
    copies = length == 1 or w is None or bool((w[:, 0] == 1).all())
    n = len(index) // length
    return n if copies and np.array_equal(index[:, 0], np.arange(length).repeat(n)) else 0


def _repeat(b: Builder, x: Value, times: Mapping[int, int]) -> Value:
    """Each element of these axes so many times (0 counts as 1)."""
    if all(n < 2 for n in times.values()):
        return x
    dims = list(enumerate(x.type.dims))
    apart = [m for i, n in dims for m in ((n, 1) if times.get(i, 0) > 1 else (n,))]
    wide = [m for i, n in dims for m in ((n, times[i]) if times.get(i, 0) > 1 else (n,))]
    y = b.aten("aten.expand.default", b.aten("aten.reshape.default", x, apart), wide)
    return b.aten("aten.reshape.default", y, [n * max(1, times.get(i, 1)) for i, n in dims])


def _sizes(
    x: Value, size: Sequence[int] | None, scales: Sequence[float | None]
) -> list[tuple[int, int, float | None]]:
    """(length, output's length, scale if it counts) of each axis; one of size and scales is given
    in the `.vec` overloads."""
    lengths = x.type.dims[-len(size or scales) :]
    out = size or [int(n * s) for n, s in zip(lengths, scales, strict=True) if s]
    return list(zip(lengths, out, scales or [None] * len(lengths), strict=True))


def _nearest_of(half: float) -> tuple[Lowering, Lowering]:
    """The `.vec` and the default overload: (x, size, scales) and (x, size, scale, scale, ...)."""

    def vec(
        b: Builder, x: Value, size: Sequence[int] | None, scales: Sequence[float] | None = None
    ) -> Value:
        return _resize(b, x, [_nearest(*s, half) for s in _sizes(x, size, scales or ())])

    def default(b: Builder, x: Value, size: Sequence[int], *scales: float | None) -> Value:
        return _resize(b, x, [_nearest(*s, half) for s in _sizes(x, size, scales)])

    return vec, default


def _smooth_of(table: Callable[..., _Table]) -> tuple[Lowering, Lowering]:
    """The same with `align_corners` after the size."""

    def vec(
        b: Builder,
        x: Value,
        size: Sequence[int] | None,
        align: bool,
        scales: Sequence[float] | None = None,
    ) -> Value:
        return _resize(b, x, [table(*s, align) for s in _sizes(x, size, scales or ())])

    def default(
        b: Builder, x: Value, size: Sequence[int], align: bool, *scales: float | None
    ) -> Value:
        return _resize(b, x, [table(*s, align) for s in _sizes(x, size, scales)])

    return vec, default


_KINDS: Mapping[str, tuple[Lowering, Lowering]] = {
    **{f"upsample_nearest{d}d": _nearest_of(0.0) for d in (1, 2, 3)},
    **{f"_upsample_nearest_exact{d}d": _nearest_of(0.5) for d in (1, 2, 3)},
    "upsample_linear1d": _smooth_of(_linear),
    "upsample_bilinear2d": _smooth_of(_linear),
    "upsample_trilinear3d": _smooth_of(_linear),
    "upsample_bicubic2d": _smooth_of(_cubic),
}

ATEN: dict[str, Lowering] = {
    f"aten.{name}.{overload}": lowering
    for name, both in _KINDS.items()
    for overload, lowering in zip(("vec", "default"), both, strict=True)
}

SAMPLES = (
    Sample("aten.upsample_nearest1d.vec", X(1, 1, 1), [3], None),
    Sample("aten.upsample_nearest1d.vec", X(2, 3, 5), None, [1.7]),
    Sample("aten.upsample_nearest1d.default", X(1, 2, 7), [4]),
    Sample("aten.upsample_nearest2d.vec", X(2, 3, 4, 5), None, [2.0, 3.0]),
    Sample("aten.upsample_nearest2d.vec", X(1, 3, 4, 5), [4, 7], None),
    Sample("aten.upsample_nearest2d.default", X(1, 3, 4, 5), [6, 10], 1.6, 2.0),
    Sample("aten.upsample_nearest3d.vec", X(1, 2, 3, 4, 5), None, [2.0, 2.0, 2.0]),
    Sample("aten.upsample_nearest3d.default", X(1, 2, 3, 4, 5), [2, 7, 10]),
    Sample("aten._upsample_nearest_exact1d.vec", X(1, 2, 7), [4], None),
    Sample("aten._upsample_nearest_exact1d.default", X(1, 2, 7), [14]),
    Sample("aten._upsample_nearest_exact2d.vec", X(1, 2, 5, 4), None, [1.5, 2.0]),
    Sample("aten._upsample_nearest_exact2d.default", X(1, 2, 5, 4), [3, 9]),
    Sample("aten._upsample_nearest_exact3d.vec", X(1, 2, 3, 5, 4), [4, 7, 3], None),
    Sample("aten._upsample_nearest_exact3d.default", X(1, 2, 3, 5, 4), [6, 10, 8]),
    Sample("aten.upsample_linear1d.vec", X(2, 3, 5), [9], True, None),
    Sample("aten.upsample_linear1d.vec", X(2, 3, 5), None, False, [1.7]),
    Sample("aten.upsample_linear1d.default", X(1, 2, 7), [4], False),
    Sample("aten.upsample_bilinear2d.vec", X(1, 3, 1, 1), [4, 5], False, None),
    Sample("aten.upsample_bilinear2d.vec", X(2, 3, 5, 4), None, False, [2.0, 3.0]),
    Sample("aten.upsample_bilinear2d.vec", X(1, 3, 5, 4), [1, 4], True, None),
    Sample("aten.upsample_bilinear2d.default", X(1, 3, 5, 6), [8, 3], False, 1.7, 0.5),
    Sample("aten.upsample_trilinear3d.vec", X(1, 2, 3, 4, 5), [4, 8, 6], False, None),
    Sample("aten.upsample_trilinear3d.default", X(1, 2, 3, 4, 5), [4, 8, 6], True),
    Sample("aten.upsample_bicubic2d.vec", X(1, 1, 1, 2), [2, 4], False, None),
    Sample("aten.upsample_bicubic2d.vec", X(1, 3, 5, 4), None, False, [2.0, 1.5]),
    Sample("aten.upsample_bicubic2d.default", X(2, 2, 6, 5), [4, 9], True),
)
