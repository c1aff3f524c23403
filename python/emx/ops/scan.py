# SPDX-License-Identifier: Apache-2.0
"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of
from emx.ir import Array, DType, Node, Op, TensorType, Value
from emx.kernel import Kernel, Scalar
from emx.sample import B, I, Sample, X

# Name -> NumPy's reference and the C operator.
TABLE: Mapping[str, tuple[Callable[[Array, int], Array], str]] = {
    "cumsum": (np.cumsum, "+"),
    "cumprod": (np.cumprod, "*"),
}


@dataclass(frozen=True)
class Scan(Op):
    """y[i] along `axis` is x[0] to x[i] combined by a row of the table."""

    name: ClassVar[str] = "scan"
    row: str
    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        return TABLE[self.row][0](arrays[0], self.axis)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x = node.inputs[0].type
        c = x.dtype.c
        body = f"*({c} *)y = *(const {c} *)last {TABLE[self.row][1]} *(const {c} *)x;"
        return Kernel(
            header="scan",
            function="emx_scan",
            inputs={"x": 0},
            params={
                "outer": prod(x.dims[: self.axis]),
                "extent": x.dims[self.axis],
                "inner": prod(x.dims[self.axis + 1 :]),
                "size": x.dtype.bytes,
            },
            key=("size",),
            scalars=(
                Scalar(
                    "combine",
                    (("const void *", "last"), ("const void *", "x"), ("void *", "y")),
                    (body,),
                ),
            ),
        )


def _lowering(row: str) -> Lowering:
    def lower(b: Builder, x: Value, dim: int, dtype: DType | None = None) -> Value:
        x = b.aten("aten._to_copy.default", x, dtype=dtype or _sum_type(x.type.dtype))
        return b.node(Scan(row, axis_of(dim, x.type.rank)), x) if x.type.rank else x

    return lower


def _sum_type(dtype: DType) -> DType:
    return dtype if dtype is DType.F32 else DType.S64


ATEN: dict[str, Lowering] = {f"aten.{row}.default": _lowering(row) for row in TABLE}

SAMPLES = (
    Sample("aten.cumsum.default", X(), 0),
    Sample("aten.cumsum.default", X(0, 3), 0),
    Sample("aten.cumsum.default", X(3, 5, 2), 1),
    Sample("aten.cumsum.default", I(7), -1),
    Sample("aten.cumsum.default", B(2, 7), -1),
    Sample("aten.cumsum.default", I(7, dtype=DType.S32), 0, dtype=DType.F32),
    Sample("aten.cumprod.default", X(3, 5), 0),
)
