# SPDX-License-Identifier: Apache-2.0
"""y = table[x + 128]: any function of one int8 value, and requantisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType
from emx.kernel import Kernel, Rows, Trace, Wishes
from emx.quant import Quant
from emx.rows import same_rows
from emx.sample import Q, Sample
from emx.target import Target


def table_of(x: Quant, y: Quant, *functions: Callable[[Array], Array]) -> Array:
    """The 256 entries, int8: what PyTorch gives for x = -128 ... 127 when it dequantises, applies
    the functions one after the other and quantises.

    A function maps float64 to float64; what it gives is rounded to float32, as is x. So sums,
    products and quotients are those of float32, and the others its nearest values.
    """
    v = x.dequantise(np.arange(-128, 128))
    with np.errstate(all="ignore"):
        for f in functions:
            v = np.asarray(f(v.astype(np.float64)), np.float32)
    return y.quantise(v)


@dataclass(frozen=True)
class TableS8(Op):
    """Inputs x s8 and the table s8 [256], which is constant."""

    name: ClassVar[str] = "table_s8"
    x: Quant
    y: Quant

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, table = arrays
        return np.asarray(table[x.astype(np.int64) + 128])

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, table = node.inputs
        at = np.arange(x.type.size)
        return Kernel(
            header="table_s8",
            function="emx_table_s8",
            inputs={"x": 0},
            params={"size": x.type.size},
            key=(),
            weights={"table": constants[table.name]},
            overlap={"x": Trace(at, at + 1, at, at + 1)},
            types=dict.fromkeys(("x", "table", "y"), "int8_t"),
        )

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes)


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.tanh.default", Q(1, scale=0.02), y=(1 / 128, 0)),
    Sample("aten.gelu.default", Q(3, 37, zero=9), y=(0.03, -121)),
    Sample("aten.mul.Scalar", Q(2, 3, 5, zero=-128), 0.3, y=(0.05, -128)),
)
