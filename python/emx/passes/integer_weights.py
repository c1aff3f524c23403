# SPDX-License-Identifier: Apache-2.0
"""The parameters of an int8 layer, from those of the float layer between dequantise and quantise.

y = scaled(b[o] + sum (x - x.zero) * w[o]), with b in units of x.scale * w.scale[o].
"""

from __future__ import annotations

import numpy as np

from emx.ir import Array, Unsupported, Value
from emx.passes.rewrite import Rewriter
from emx.quant import LARGEST, SCALE_SHIFT, VANISHING, Grid, Quant, multipliers

_LIMIT = 1 << 31  # of sums
_NEAR = 1e-3  # steps that a constant may lie beside its grid
_SATURATED = 512  # steps of y
_AROUND = 16  # units that a bias may be moved by
_FAR = 1 << 20  # more than this of a rest saturates
_LOSS = 1 / 16  # steps of y that a filter may be off whose units are made coarser


def weighted(
    r: Rewriter, weight: Value, bias: Value, x: Quant, y: Quant, beside: float = 0
) -> tuple[Value, Value, Value, Value]:
    """The constants w int8 [o][...], b, m and c int32 [o]. Unsupported where weights are no
    multiples of a scale of their output. `beside`: what else may be added before the rounding, in
    steps of y.

    A filter whose multiplier is below VANISHING, and whose sums are less than half a step whatever
    the inputs are, is zero; what is left of it is its bias in steps of y, with the multiplier 1.
    """
    grid = grid_of(r, weight)
    units = grid.units.reshape(len(grid.units), -1).astype(np.int64)
    scale = grid.scale.astype(np.float64) * np.float32(x.scale)
    reals = scale / y.scale
    b = _bias(r, bias, scale)
    idle = reals * 256 * np.abs(units).sum(axis=1) < 1 / 2
    gone = (reals < VANISHING) & idle | ~units.any(axis=1)
    units, reals = np.where(gone[:, None], 0, units), np.where(gone, 1.0, reals)
    b = np.where(gone, np.rint(r.constants[bias.name].astype(np.float64) / y.scale), b)
    # What is beyond this saturates whatever the inputs are.
    most = (_SATURATED + beside) / reals + 256 * np.abs(units).sum(axis=1)
    b = np.clip(b, -np.floor(most), np.floor(most))
    units, b, reals = _fitting(units, b, reals, x.zero)
    if reals.max(initial=0) >= LARGEST:
        raise Unsupported(
            f"a result in steps of {y.scale:.3g} is too fine for its weights",
            "calibrate again, with inputs for which this layer's output is not constant",
        )
    b, c = _whole(b, reals)
    name = weight.name.removesuffix(".dequantised")
    return (
        r.constant(f"{name}.folded", units.astype(np.int8).reshape(grid.units.shape)),
        r.constant(f"{bias.name}.folded", b),
        r.constant(f"{name}.m", multipliers(reals)),
        r.constant(f"{bias.name}.rest", c),
    )


def grid_of(r: Rewriter, v: Value) -> Grid:
    """A constant as int8 units and one scale for each index of the first axis."""
    data = r.constants[v.name]
    found = r.grids.get(v.name)
    by_rows = found is not None and found.scale.size in (1, *found.scale.shape[:1])
    grid = found if found is not None and by_rows else _recovered(data)
    if grid is None:
        raise Unsupported(
            "its weights are not quantised", "quantise them for each output, or as a whole"
        )
    if grid.units.min(initial=0) < -128 or grid.units.max(initial=0) > 127:
        raise Unsupported(
            "its weights do not fit int8 without their zero point", "quantise them symmetrically"
        )
    return Grid(grid.units, np.broadcast_to(grid.scale.reshape(-1), len(data)))


def _recovered(data: Array) -> Grid | None:
    """The grid on which the rows of a constant lie; the finest if there are several."""
    rows = data.reshape(len(data), -1).astype(np.float64)
    most = np.abs(rows).max(axis=1, initial=0)
    scale = np.where(most == 0, 1.0, 0.0)
    for count in (127, 128, *range(126, 0, -1)):
        open_ = np.flatnonzero(scale == 0)
        steps = rows[open_] * (count / most[open_, None])
        on_grid = (np.abs(steps - np.rint(steps)) < _NEAR).all(axis=1)
        scale[open_[on_grid]] = most[open_[on_grid]] / count
    if not scale.all():
        return None
    return Grid(np.rint(rows / scale[:, None]).astype(np.int64).reshape(data.shape), scale)


def _bias(r: Rewriter, bias: Value, scale: Array) -> Array:
    """In units of `scale`; integers of about these units stay as they are."""
    grid = r.grids.get(bias.name)
    if grid is not None and np.allclose(grid.scale, scale, rtol=1e-6, atol=0):
        return grid.units.astype(np.float64)
    return np.asarray(r.constants[bias.name].astype(np.float64) / scale)


def _fitting(units: Array, b: Array, reals: Array, zero: int) -> tuple[Array, Array, Array]:
    """Filters so small that their bias would overflow get coarser units, if that loses next to
    nothing; what else might overflow is refused with the kernel."""
    bound = np.abs(b - zero * units.sum(axis=1)) + 128 * np.abs(units).sum(axis=1)
    halvings = np.ceil(np.log2(np.maximum(bound / (_LIMIT - 1 - _AROUND), 1)))
    halvings += halvings > 0  # for what rounding adds
    coarse = 2.0**halvings
    coarse = np.where(reals * coarse * 128 * units.shape[1] > _LOSS, 1.0, coarse)
    b = np.clip(b / coarse, -_LIMIT, _LIMIT - 1)
    return np.rint(units / coarse[:, None]).astype(np.int64), b, reals * coarse


def _whole(b: Array, reals: Array) -> tuple[Array, Array]:
    """Integers int32 near to b, and the rest in 2^-SCALE_SHIFT of a step: such as leave least."""
    away = np.array(sorted(range(-_AROUND, _AROUND + 1), key=abs))
    some = np.rint(b)[:, None] + away
    rest = (b[:, None] - some) * reals[:, None] * 2.0**SCALE_SHIFT
    off = np.where(np.abs(rest) < _FAR, np.abs(rest - np.rint(rest)), np.inf)
    at = np.arange(len(b)), off.argmin(axis=1)
    return some[at].astype(np.int32), np.clip(np.rint(rest[at]), -_FAR, _FAR).astype(np.int32)
