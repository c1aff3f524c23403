# SPDX-License-Identifier: Apache-2.0
"""y = table[c][x]: uint8 pixels, normalised and quantised, each channel in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.ir import Array, DType, Node, Op, TensorType
from emx.kernel import Kernel, Trace
from emx.quant import Quant
from emx.sample import Sample


@dataclass(frozen=True)
class PixelsS8(Op):
    """Inputs x u8 and the table s8 [channels][256], which is constant; the channels are those of
    `axis` of x, or one for all of it. y says what the results stand for."""

    name: ClassVar[str] = "pixels_s8"
    axis: int
    y: Quant

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, table = arrays
        channel = np.arange(len(table)).reshape(-1, *[1] * (x.ndim - self.axis - 1))
        return np.asarray(table[channel, x] if len(table) > 1 else table[0][x])

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, table = node.inputs
        channels, dims = table.type.dims[0], x.type.dims
        outer = prod(dims[: self.axis]) if channels > 1 else 1
        at = np.arange(x.type.size)
        return Kernel(
            header="pixels_s8",
            function="emx_pixels_s8",
            inputs={"x": 0},
            params={
                "outer": outer,
                "channels": channels,
                "inner": x.type.size // max(1, outer * channels),
            },
            key=(),
            weights={"table": constants[table.name]},
            overlap={"x": Trace(at, at + 1, at, at + 1)},
            types={"x": "uint8_t", "table": "int8_t", "y": "int8_t"},
        )


ATEN: dict[str, Lowering] = {}

SAMPLES: tuple[Sample, ...] = ()
