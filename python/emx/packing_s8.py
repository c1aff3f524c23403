# SPDX-License-Identifier: Apache-2.0
"""Weights and parameters of int8 layers with weights, as their kernels read them.

Four outputs are a block, see runtime/include/emx/quant.h and arch/*_s8.h there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emx.ir import Array, Node, Unsupported
from emx.quant import SCALE_SHIFT, Quant, fits_left, shifts
from emx.target import Target

BLOCK = 4  # outputs
# Inputs of an output are padded with zero weights to a multiple of this.
DEPTH = {"generic": 1, "dsp": 4, "mve": 16}
# Bytes of scratch for each input of a pair of pixels.
STAGED = {"generic": 2, "dsp": 4, "mve": 2}


def padded_depth(depth: int, target: Target) -> int:
    """`depth` inputs as they lie in packed weights, and in staged pixels."""
    unit = DEPTH[target.dot]
    return -(-depth // unit) * unit


@dataclass(frozen=True)
class Weighted:
    """The parameters of a layer, w [outputs][...], the others [outputs]; see docs/output-format.md.

    b       bias in units of x.scale * w.scale, with x's zero point folded in
    start   of the scaled sum, in 2^-SCALE_SHIFT of a step: y's zero point, a half, and c
    bound   no sum of products and bias, nor a part of it, is larger
    """

    w: Array
    b: Array
    m: Array
    start: Array
    bound: Array

    @staticmethod
    def of(node: Node, constants: Mapping[str, Array], x: Quant, y: Quant) -> Weighted:
        """Of a node whose inputs are x, w, b, m, c. Unsupported if its sums might overflow."""
        w, b, m, c = (constants[v.name] for v in node.inputs[1:5])
        terms = w.reshape(len(w), -1).astype(np.int64)
        bias = b - x.zero * terms.sum(axis=1)
        # The same, exactly, of a filter of zeros, so that its left shift is in no other's way.
        more = np.maximum(33 - shifts(m), 0)
        more *= ~terms.any(axis=1) & (np.abs(bias) << more < 1 << 23)
        bias, m = bias << more, (m - more).astype(np.int32)
        bound = np.abs(bias) + 128 * np.abs(terms).sum(axis=1)
        if np.max(bound, initial=0) >= 1 << 31:
            raise Unsupported(
                f"a sum of {terms.shape[1]} products may overflow 32 bits",
                "keep this layer in float, or split its inputs",
            )
        return Weighted(w, bias, m, c.astype(np.int64) + start_of(y), bound)

    @property
    def depth(self) -> int:
        """Inputs of an output."""
        return int(self.w[0].size)

    def twice(self, groups: int, target: Target) -> bool:
        """Whether two outputs can be summed as one, 256 * the second + the first: their weights
        fit 16 bits, the second's sum 24 bits, its left shift is 8 at most (arch/dsp_s8.h)."""
        if target.dot != "dsp" or (groups > 1 and len(self.w) // groups % 2):
            return False
        w = self.w.reshape(len(self.w), -1).astype(np.int16)
        fits = np.max(self.left[1::2], initial=0) <= 8
        fits = fits and np.max(self.bound[1::2], initial=0) < 1 << 23
        both = len(w) // 2 * 2
        return bool(fits and not np.any((w[1:both:2] == -128) & (w[:both:2] < 0)))

    @property
    def left(self) -> Array:
        """The left shifts of the sums."""
        return self.m & 255

    @property
    def wide(self) -> bool:
        """Whether scaling the sums takes 64 bits."""
        return not fits_left(shifts(self.m), self.bound)

    def params(self, groups: int = 1, *, twice: bool = False) -> Array:
        """int32 [groups][blocks][12]: of each block four biases, four pairs of a multiplier and a
        start."""
        b, m, start = (_blocks(r, groups) for r in (self.b, self.m, self.start))
        if twice:
            b[..., 1::2] = _wrapped(b[..., 1::2] * 256 + b[..., ::2])
        pairs = np.stack([m, start], axis=-1).reshape(*m.shape[:-1], 2 * BLOCK)
        return np.concatenate([b, pairs], axis=-1).astype(np.int32)

    def compact(self, y: Quant, groups: int = 1) -> Array | None:
        """The same in 7 bytes an output, as emx_unpack_block_s8 of emx/quant.h reads it. None
        unless all scaled sums start alike, and biases have 24 bits."""
        if self.wide or np.any(self.start != start_of(y)):
            return None
        q = self.params(groups)
        b, m = q[..., :BLOCK], q[..., BLOCK::2]
        if np.max(np.abs(b.astype(np.int64)), initial=0) >= 1 << 23:
            return None
        raw = np.ascontiguousarray(b, "<i4").view(np.uint8).reshape(*b.shape, 4)[..., :3]
        words = np.ascontiguousarray(raw).reshape(*b.shape[:-1], 12).view("<i4")
        return np.concatenate([m, words], axis=-1).astype(np.int32)

    def packed(
        self, y: Quant, groups: int, target: Target, *, compact: bool = False, plain: bool = False
    ) -> Packed:
        """All that a kernel of blocks reads; `compact`: parameters in 7 bytes an output where they
        may be; `plain`: no packing but that of 12, as for sums that are scaled in 64 bits."""
        plain = plain or self.wide
        twice = not plain and self.twice(groups, target)
        short = self.compact(y, groups) if compact and not plain else None
        q = self.params(groups, twice=twice) if short is None else short
        w = pack_weights(self.w, groups, target, twice=twice)
        tail = len(self.w) // groups % BLOCK
        how = {"tail": tail, "twice": int(twice), "words": q.shape[-1], "wide": int(self.wide)}
        return Packed(padded_depth(self.depth, target), w, q, how)


@dataclass(frozen=True)
class Packed:
    """Weights and parameters, and what of a kernel's parameters says how they are packed."""

    depth: int
    w: Array
    q: Array
    how: Mapping[str, int]


def start_of(y: Quant) -> int:
    """What scaled sums start from: the zero point, and a half."""
    return (2 * y.zero + 1) << (SCALE_SHIFT - 1)


def _wrapped(v: Array) -> Array:
    """The 32-bit number that differs from each of v by a multiple of 2^32."""
    return (v + (1 << 31)) % (1 << 32) - (1 << 31)


def _blocks(row: Array, groups: int) -> Array:
    """[outputs] -> int64 [groups][blocks][4], filled with zeros."""
    row = row.astype(np.int64).reshape(groups, -1)
    return np.pad(row, ((0, 0), (0, -row.shape[1] % BLOCK))).reshape(groups, -1, BLOCK)


def pack_weights(w: Array, groups: int, target: Target, *, twice: bool = False) -> Array:
    """[outputs][c][...taps] -> int8 [groups][blocks][depth][4], inputs in the order taps, c:

    generic  [depth][4 outputs]
    dsp      [depth/4][inputs 0, 2 or 1, 3][outputs 0, 1 or 2, 3][2 inputs][2 outputs]; `twice`:
             the last two are a number of 16 bits, 256 * the second output + the first
    mve      [depth/16][4 outputs][16 inputs]
    """
    flat = np.moveaxis(w, 1, -1).reshape(groups, len(w) // groups, -1)
    depth = padded_depth(flat.shape[2], target)
    fill = ((0, 0), (0, -flat.shape[1] % BLOCK), (0, depth - flat.shape[2]))
    blocks = np.pad(flat, fill).reshape(groups, -1, BLOCK, depth)
    if target.dot == "dsp":
        if twice:
            blocks[:, :, 1::2] -= blocks[:, :, ::2] < 0  # which the lower byte takes away
        split = blocks.reshape(*blocks.shape[:2], 2, 2, depth // 4, 2, 2)
        order = split.transpose(0, 1, 4, 6, 2, 5, 3)
    else:
        unit = DEPTH[target.dot]
        split = blocks.reshape(*blocks.shape[:3], depth // unit, unit)
        order = split.transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(order).reshape(*blocks.shape[:2], depth, BLOCK)
