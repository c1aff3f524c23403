# SPDX-License-Identifier: Apache-2.0
"""Maximum or mean along one axis over windows that share it out: output j of n has elements
floor(j * len / n) to ceil((j + 1) * len / n) - 1. Adaptive pooling is that for axis after axis.

y[o][j][i] = max or mean of x[o][t][i] over t of window j
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace
from emx.sample import Sample, X


@dataclass(frozen=True)
class AdaptivePool(Op):
    """`axis` of x becomes `count` long."""

    name: ClassVar[str] = "adaptive_pool"
    axis: int
    count: int
    mean: bool

    def infer(self, *types: TensorType) -> TensorType:
        dims = list(types[0].dims)
        dims[self.axis] = self.count
        return TensorType(tuple(dims), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        (x,) = arrays
        reduce = np.mean if self.mean else np.max
        windows = [
            reduce(np.take(x, range(lo, hi), self.axis), axis=self.axis)
            for lo, hi in self._windows(x.shape[self.axis])
        ]
        return np.stack(windows, self.axis)

    def _windows(self, length: int) -> list[tuple[int, int]]:
        n = self.count
        return [(j * length // n, -(-(j + 1) * length // n)) for j in range(n)]

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        dims = node.inputs[0].type.dims
        outer, length, inner = prod(dims[: self.axis]), dims[self.axis], prod(dims[self.axis + 1 :])
        return Kernel(
            header="adaptive_pool",
            function="emx_adaptive_avgpool_f32" if self.mean else "emx_adaptive_maxpool_f32",
            inputs={"x": 0},
            params={"outer": outer, "in": length, "out": self.count, "inner": inner},
            key=(),
            overlap={"x": self._trace(outer, length, inner)},
        )

    def _trace(self, outer: int, length: int, inner: int) -> Trace:
        """Element after element: reads its window, then writes it."""
        lo, hi = np.array(self._windows(length), np.int64).T[:, None, :, None]
        o, j, i = np.indices((outer, self.count, inner))
        start = o * length * inner + i
        read_lo, read_hi = start + lo * inner, start + (hi - 1) * inner + 1
        write = ((o * self.count + j) * inner + i).ravel() * 4
        return Trace(read_lo.ravel() * 4, read_hi.ravel() * 4, write, write + 4)


def _adaptive(b: Builder, x: Value, size: Sequence[int | None], mean: bool) -> Value:
    """Pool the last axes of x to these sizes, the innermost first."""
    require_f32(x)
    for axis, count in reversed(list(enumerate(size, x.type.rank - len(size)))):
        if count is not None and count != x.type.dims[axis]:
            x = b.node(AdaptivePool(axis, count, mean), x)
    return x


def lower_adaptive_avg_pool(b: Builder, x: Value, size: Sequence[int | None]) -> Value:
    return _adaptive(b, x, size, mean=True)


def lower_adaptive_max_pool(b: Builder, x: Value, size: Sequence[int | None]) -> tuple[Value]:
    """The maxima; their indices, the second output, are not computed."""
    return (_adaptive(b, x, size, mean=False),)


ATEN: dict[str, Lowering] = {
    "aten.adaptive_avg_pool1d.default": lower_adaptive_avg_pool,
    "aten.adaptive_avg_pool3d.default": lower_adaptive_avg_pool,
    "aten.adaptive_max_pool1d.default": lower_adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": lower_adaptive_max_pool,
}

SAMPLES = (
    Sample("aten.adaptive_avg_pool1d.default", X(1, 1, 1), [1]),
    Sample("aten.adaptive_avg_pool1d.default", X(2, 3, 7), [3]),
    Sample("aten.adaptive_avg_pool1d.default", X(3, 4), [7]),
    Sample("aten.adaptive_avg_pool3d.default", X(2, 3, 4, 5, 6), [2, 3, 1]),
    Sample("aten.adaptive_avg_pool3d.default", X(3, 4, 5, 6), [5, 5, 4]),
    Sample("aten.adaptive_max_pool1d.default", X(2, 3, 7), [3]),
    Sample("aten.adaptive_max_pool3d.default", X(1, 2, 4, 5, 6), [3, 5, 2]),
)
