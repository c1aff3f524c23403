# SPDX-License-Identifier: Apache-2.0
"""The parameters of integer layers with weights of 4 bits, or with images of 16 (Conv2dMixed)."""

from __future__ import annotations

from math import prod

import numpy as np

from emx.ir import Array, DType, Node, Unsupported, Value
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed, bits_of, products, segments
from emx.ops.movement import Reshape
from emx.passes.integer_weights import grid_of
from emx.passes.narrow import scales_of
from emx.passes.rewrite import Rewriter
from emx.passes.site import Site
from emx.quant import Grid, Quant
from emx.window import Window

_BITS = 25  # of multipliers, the largest of an output
_MOST_SHIFT = 55


def is_mixed(r: Rewriter, node: Node, x: Quant) -> bool:
    """Whether an integer layer is a Conv2dMixed: by its image, or its weights. Those of 4 bits are
    int8 too, where something is added to the sums."""
    grid = r.grids.get(node.inputs[1].name)
    if x.dtype is DType.S16 or len(node.inputs) > 3:
        return x.dtype is DType.S16
    narrow = grid is not None and bits_of(grid.units) == 4 and bool(np.any(grid.units))
    return narrow or _grouped(grid)


def _grouped(grid: Grid | None) -> bool:
    scales = None if grid is None else scales_of(grid)
    return scales is not None and len(scales) > 1


def mixed_conv2d(s: Site, image: Value, x: Quant, y: Quant) -> list[Node]:
    op = s.node.op
    assert isinstance(op, Conv2d)
    layer = Conv2dMixed(op.window, op.groups, x, y, y.lo, y.hi)
    return [s.last(layer, image, *_parameters(s, x, y))]


def mixed_linear(s: Site, row: Value, x: Quant, y: Quant) -> list[Node]:
    """A 1x1 convolution over the rows."""
    units, *parameters = _parameters(s, x, y)
    filters = s.r.constant(units.name, s.r.constants[units.name].reshape(*units.type.dims, 1, 1))
    image = s.inner(Reshape((1, 1, prod(row.type.dims[:-1]), row.type.dims[-1])), row)
    layer = Conv2dMixed(Window((1, 1)), 1, x, y, y.lo, y.hi)
    sums = s.inner(layer, image.output, filters, *parameters)
    return [image, sums, s.last(Reshape(s.node.output.type.dims), sums.output)]


def _parameters(s: Site, x: Quant, y: Quant) -> tuple[Value, Value, Value, Value]:
    """The constants w s8 [o][...], b s64 [o], m s32 [segments][o] and shift s32 [o]: b and sums
    times m are in steps of y times 2^-shift."""
    r, (_, weight, bias, *rest) = s.r, s.node.inputs
    if rest:
        raise Unsupported("something is added to its sums", "quantise the sum apart from it")
    grid = r.grids.get(weight.name)
    scales = None if grid is None else scales_of(grid)
    if grid is None or scales is None:
        grid = grid_of(r, weight)
        scales = grid.scale.astype(np.float64)[None]
    reals = scales * np.float32(x.scale) / y.scale
    units = grid.units.astype(np.int8)
    if len(reals) == 1:
        reals = np.repeat(reals, _segments(products(units), x), axis=0)
    exponent = np.frexp(reals.max(axis=0))[1]
    if exponent.max(initial=0) >= _BITS:
        raise Unsupported(
            f"a result in steps of {y.scale:.3g} is too fine for its weights",
            "calibrate again, with inputs for which this layer's output is not constant",
        )
    shift = np.minimum(_BITS - exponent, _MOST_SHIFT)
    m = np.rint(reals * 2.0**shift).astype(np.int32)
    name = weight.name.removesuffix(".dequantised")
    return (
        r.constant(f"{name}.folded", units),
        r.constant(f"{bias.name}.folded", _bias(r, bias, units, m, shift, y)),
        r.constant(f"{name}.m", m),
        r.constant(f"{name}.shift", shift.astype(np.int32)),
    )


def _segments(terms: Array, x: Quant) -> int:
    """The least number of equal segments whose sums fit 32 bits."""
    most = -int(np.iinfo(x.dtype.numpy).min)
    sizes = np.abs(terms.astype(np.int64)) * most
    for count in range(1, sizes.shape[1] + 1):
        spans = segments(sizes.shape[1], count)
        if len(spans) == count and max(sizes[:, k].sum(axis=1).max() for k in spans) < 1 << 31:
            return count
    return 1


def _bias(r: Rewriter, bias: Value, units: Array, m: Array, shift: Array, y: Quant) -> Array:
    """int64; what is larger than these saturates whatever the inputs are."""
    grid = r.grids.get(bias.name)
    data = r.constants[bias.name].astype(np.float64)
    if grid is not None:
        data = grid.units.astype(np.float64) * grid.scale
    steps = 4.0 * (y.hi - y.lo + 1) * 2.0**shift
    sums = np.abs(products(units).astype(np.float64)).sum(axis=1) * m.max(axis=0) * 2.0**16
    most = np.minimum(steps + sums, 2.0**61)
    return np.clip(np.rint(data / y.scale * 2.0**shift), -most, most).astype(np.int64)
