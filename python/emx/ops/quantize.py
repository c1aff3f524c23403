# SPDX-License-Identifier: Apache-2.0
"""Between floats and quantised integers, as PyTorch's converted models say it.

Where a model is integer inside, `emx.passes.integers` takes these calls into the operators; what
stays is elementwise, a row of the pointwise table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from emx.builder import Builder, Lowering, axis_of, require_f32
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Rows, Wishes
from emx.pointwise import Pointwise
from emx.quant import Grid, Quant
from emx.rows import same_rows
from emx.sample import I, P, Sample, T, X
from emx.scalars import Call
from emx.target import Target

_RUN_TIME = (DType.S8, DType.U8, DType.S16)


@dataclass(frozen=True)
class Quantize(Op):
    """y = clamp(round_half_even(x * (1 / scale)) + zero, lo, hi), elementwise in float32."""

    name: ClassVar[str] = "quantize"
    q: Quant

    @property
    def pointwise(self) -> Pointwise:
        """The same as a row of the table."""
        bounds = (float(self.q.zero), float(self.q.lo), float(self.q.hi))
        row = f"quantize_{self.q.dtype.value}"
        return Pointwise(Call(row, (0, float(self.q.inverse), *bounds)))

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, self.q.dtype)

    def reference(self, *arrays: Array) -> Array:
        return self.q.quantise(arrays[0])

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        return self.pointwise.kernel(node, constants)

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes)


@dataclass(frozen=True)
class Dequantize(Op):
    """y = float32(x - zero) * scale, elementwise."""

    name: ClassVar[str] = "dequantize"
    q: Quant

    @property
    def pointwise(self) -> Pointwise:
        """The same as rows of the table."""
        wide = Call("sub", (Call("f32", (0,)), float(self.q.zero)))
        return Pointwise(Call("mul", (wide, self.q.scale)))

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, DType.F32)

    def reference(self, *arrays: Array) -> Array:
        return self.q.dequantise(arrays[0]).astype(np.float64)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        return self.pointwise.kernel(node, constants)

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        return same_rows(node, constants, target, wishes)


def lower_quantize(b: Builder, x: Value, *arguments: Any) -> Value:
    """Parameters are quantised now."""
    require_f32(x)
    q = _quant(b, *arguments)
    if x.name in b.constants:
        return b.constant(q.quantise(b.constants[x.name]), "quantised", beside=x)
    if q.dtype not in _RUN_TIME:
        raise Unsupported(f"quantising to {q.dtype.value} is not supported", "quantise to int8")
    return b.node(Quantize(q), x)


def lower_dequantize(b: Builder, x: Value, *arguments: Any, out_dtype: object = None) -> Value:
    q = _quant(b, *arguments)
    if x.name in b.constants:
        return b.dequantised(x, Grid(b.constants[x.name] - np.int64(q.zero), np.array(q.scale)))
    return b.node(Dequantize(q), x)


def _quant(b: Builder, *arguments: Any) -> Quant:
    """scale, zero, lo and hi, each a number or a constant of one element, and the type."""
    *numbers, dtype = arguments
    scale, zero, lo, hi = (
        b.data(v, "the scale of a quantised tensor").item() if isinstance(v, Value) else v
        for v in numbers
    )
    _require_scale(np.array(scale))
    return Quant(scale, zero, dtype, lo, hi)


def lower_quantize_channels(
    b: Builder, x: Value, scales: Value, zeros: Value, axis: int, lo: int, hi: int, dtype: DType
) -> Value:
    data = b.data(x, "what is quantised by channels")
    scale, zero = _channels(b, axis_of(axis, x.type.rank), x, scales, zeros)
    q = np.rint(data * (1 / scale).astype(np.float32)) + zero
    return b.constant(np.clip(q, lo, hi).astype(dtype.numpy), "quantised", beside=x)


def lower_dequantize_channels(
    b: Builder,
    x: Value,
    scales: Value,
    zeros: Value | None,
    axis: int,
    lo: int,
    hi: int,
    dtype: DType,
    out_dtype: object = None,
) -> Value:
    data = b.data(x, "what is dequantised by channels")
    scale, zero = _channels(b, axis_of(axis, x.type.rank), x, scales, zeros)
    return b.dequantised(x, Grid(data - zero, scale))


def lower_dequantize_groups(
    b: Builder,
    x: Value,
    scales: Value,
    zeros: Value | None,
    lo: int,
    hi: int,
    dtype: DType,
    group: int,
    out_dtype: object = None,
) -> Value:
    """Each `group` elements in a row of the last axis have a scale of their own."""
    data = b.data(x, "what is dequantised by groups")
    size = min(group, data.shape[-1])
    scale, zero = _channels(b, 0, x, scales, zeros)
    scale, zero = np.broadcast_arrays(scale, zero)
    each = [np.repeat(a.ravel(), size).reshape(data.shape) for a in (scale, zero)]
    return b.dequantised(x, Grid(data - each[1], each[0]))


def _channels(
    b: Builder, axis: int, x: Value, scales: Value, zeros: Value | None
) -> tuple[Array, Array]:
    """The scales and zero points as they broadcast to x."""
    shape = [-1 if i == axis else 1 for i in range(x.type.rank)]
    scale = b.data(scales, "a scale").reshape(shape)
    _require_scale(scale)
    zero = b.data(zeros, "a zero point") if zeros else np.zeros(1)
    return scale, zero.astype(np.int64).reshape(shape)


def _require_scale(scales: Array) -> None:
    """Every scale, and its reciprocal, is positive and finite in float32."""
    with np.errstate(all="ignore"):
        both = scales.astype(np.float32), (1 / scales).astype(np.float32)
    good = (both[0] > 0) & np.isfinite(both[0]) & np.isfinite(both[1])
    if not np.all(good):
        raise Unsupported(
            f"{scales[~good].flat[0]} is no scale of a quantised tensor",
            "calibrate again, with inputs for which this tensor is neither constant nor infinite",
        )


_NAMES = ("default", "tensor", "tensor2")  # numbers; scale and zero tensors; the bounds too

ATEN: dict[str, Lowering] = {
    **{f"quantized_decomposed.quantize_per_tensor.{n}": lower_quantize for n in _NAMES},
    **{f"quantized_decomposed.dequantize_per_tensor.{n}": lower_dequantize for n in _NAMES},
    "quantized_decomposed.quantize_per_channel.default": lower_quantize_channels,
    "quantized_decomposed.dequantize_per_channel.default": lower_dequantize_channels,
    "quantized_decomposed.dequantize_per_channel_group.default": lower_dequantize_groups,
}

_CALL = "quantized_decomposed.{}quantize_per_{}"


def _number_of(value: float, dtype: DType = DType.S64) -> T:
    """A tensor of one element."""
    return P(low=value, high=value + 1, dtype=dtype)


SAMPLES = (
    *(
        Sample(_CALL.format("", "tensor.default"), X(40, low=-5.0, high=5.0), *numbers)
        for numbers in (
            (0.03, 5, -128, 127, DType.S8),
            (1 / 255, -128, -127, 127, DType.S8),
            (0.02, 128, 0, 255, DType.U8),
            (1e-4, 7, -32768, 32767, DType.S16),
            (0.25, 0, -128, 127, DType.S8),
        )
    ),
    *(
        Sample(_CALL.format("de", "tensor.default"), I(*shape, low=lo, high=hi, dtype=dtype),
               scale, zero, lo, hi, dtype)
        for shape, scale, zero, lo, hi, dtype in (
            ((), 0.03, 0, -128, 127, DType.S8),
            ((2, 9), 1 / 255, -128, -128, 127, DType.S8),
            ((2, 3, 5), 0.02, 128, 0, 255, DType.U8),
            ((7,), 1e-4, 7, -32768, 32767, DType.S16),
        )
    ),
    *(
        Sample(_CALL.format("", f"tensor.{name}"), X(9, low=-9.0, high=9.0),
               P(low=0.03, high=0.05), _number_of(5), *bounds, DType.S8)
        for name, bounds in (("tensor", (-9, 99)), ("tensor2", (_number_of(-9), _number_of(99))))
    ),
    *(
        Sample(_CALL.format("de", f"tensor.{name}"), I(9, dtype=DType.S8),
               P(low=0.03, high=0.05), _number_of(5), *bounds, DType.S8)
        for name, bounds in (("tensor", (-9, 99)), ("tensor2", (_number_of(-9), _number_of(99))))
    ),
    *(
        Sample(_CALL.format("", "channel.default"), P(3, 4), P(n, low=0.01, high=0.02),
               P(n, low=-9, high=9, dtype=DType.S64), axis, -127, 127, DType.S8)
        for axis, n in ((0, 3), (1, 4))
    ),
    *(
        Sample(_CALL.format("de", "channel.default"), P(3, 4, low=-128, high=127, dtype=dtype),
               P(n, low=0.01, high=0.02), zeros, axis, -128, 127, dtype)
        for axis, n, zeros, dtype in (
            (0, 3, None, DType.S8),
            (1, 4, P(4, low=-9, high=9, dtype=DType.S64), DType.S8),
            (-1, 4, P(4, low=-9, high=9, dtype=DType.S32), DType.S32),
        )
    ),
    *(
        Sample(_CALL.format("de", "channel_group.default"),
               P(2, 8, low=-8, high=8, dtype=DType.S8), P(2, scales, low=0.01, high=0.02), zeros,
               -8, 7, DType.S8, group, DType.F32)
        for group, scales, zeros in (
            (4, 2, P(2, 2, low=-3, high=3, dtype=DType.S32)),
            (9, 1, None),
        )
    ),
)  # fmt: skip
