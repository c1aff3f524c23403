# SPDX-License-Identifier: Apache-2.0
"""Weights and parameters of int8 layers with weights, as their kernels read them.

Four outputs are a block. Its weights are what the target's dot products take
(runtime/include/emx/arch/*_s8.h); its parameters are int32 [3][4]: bias, multiplier, left shift
(of wide layers the right shift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emx.ir import Array, Node, Unsupported
from emx.quant import Quant, left_shifts
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
    bound   no sum of products and bias, nor a part of it, is larger
    """

    w: Array
    b: Array
    m: Array
    shift: Array
    bound: Array

    @staticmethod
    def of(node: Node, constants: Mapping[str, Array], x: Quant) -> Weighted:
        """Of a node whose inputs are x, w, b, m, shift. Unsupported if its sums might overflow."""
        w, b, m, shift = (constants[v.name] for v in node.inputs[1:5])
        terms = w.reshape(len(w), -1).astype(np.int64)
        bias = b - x.zero * terms.sum(axis=1)
        bound = np.abs(bias) + 128 * np.abs(terms).sum(axis=1)
        if np.max(bound, initial=0) >= 1 << 31:
            raise Unsupported(
                f"a sum of {terms.shape[1]} products may overflow 32 bits",
                "keep this layer in float, or split its inputs",
            )
        return Weighted(w, bias, m, shift, bound)

    @property
    def depth(self) -> int:
        """Inputs of an output."""
        return self.w[0].size

    def params(self, groups: int = 1, *, wide: bool = False) -> tuple[Array, bool]:
        """(int32 [groups][blocks][3][4], whether they are for 64-bit requantisation, as asked for
        with `wide`)."""
        left = None if wide else left_shifts(self.shift, self.bound)
        rows = [_blocks(r, groups) for r in (self.b, self.m, self.shift if left is None else left)]
        return np.stack(rows, axis=2).astype(np.int32), left is None


def _blocks(row: Array, groups: int) -> Array:
    """[outputs] -> [groups][blocks][4], filled with zeros (for shifts: no shift)."""
    row = row.reshape(groups, -1)
    return np.pad(row, ((0, 0), (0, -row.shape[1] % BLOCK))).reshape(groups, -1, BLOCK)


def pack_weights(w: Array, groups: int, target: Target) -> Array:
    """[outputs][c][...taps] -> int8 [groups][blocks][depth][4], inputs in the order taps, c:

    generic  [depth][4]
    dsp      [depth/4][4][4 inputs]
    mve      [depth/16][4][16 inputs]
    """
    flat = np.moveaxis(w, 1, -1).reshape(groups, len(w) // groups, -1)
    depth = padded_depth(flat.shape[2], target)
    fill = ((0, 0), (0, -flat.shape[1] % BLOCK), (0, depth - flat.shape[2]))
    blocks = np.pad(flat, fill).reshape(groups, -1, BLOCK, depth)
    unit = DEPTH[target.dot]
    split = blocks.reshape(*blocks.shape[:3], depth // unit, unit).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(split).reshape(*blocks.shape[:2], depth, BLOCK)
