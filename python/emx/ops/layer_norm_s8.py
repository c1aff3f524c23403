# SPDX-License-Identifier: Apache-2.0
"""Layer and RMS norm of int8 over the last axes, in integers.

With S = sum x, V = n^2 var(x) is an integer, and (x - mean) / sqrt(var + eps) is D / sqrt(V + E)
with D = n x - S and E = n^2 eps / scale^2. An RMS norm has S = n zero, V = n sum (x - zero)^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.fixed import high, normalise_even, rsqrt
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Trace
from emx.quant import Quant
from emx.sample import P, Q, Sample

MAX_LENGTH = 1 << 16
_FRACTION = 14  # bits of V + E; even


def _unit(n: int) -> int:
    """Bits of the fraction of a normalised element; it is sqrt(n) at most, and below 2^28 then."""
    return 28 - ((n - 1).bit_length() + 1) // 2


def norm_parameters(w: Array, b: Array, y: Quant) -> tuple[Array, Array, int]:
    """(m, c, s): y's steps are (normalised * m + c) / 2^s, int32, one for each element of a row;
    `normalised` as _unit() says. s < 1 where there are no such numbers: y's scale is far too
    small."""
    product = 32 - _unit(w.size)  # what high() takes off
    gain, shift = w.astype(np.float64) / y.scale, b.astype(np.float64) / y.scale
    with np.errstate(divide="ignore"):
        bits = np.log2([np.abs(gain).max(initial=0), np.abs(shift).max(initial=0)])
    s = int(min(29 - product - np.floor(bits[0]), 28 - np.floor(bits[1]), 16))
    m = np.rint(gain * 2.0 ** (s + product)) if s > 0 else 0 * gain
    c = np.rint(shift * 2.0**s) if s > 0 else 0 * shift
    return m.astype(np.int32), c.astype(np.int32), s


@dataclass(frozen=True)
class LayerNormS8(Op):
    """Inputs x s8, m and c s32, constants, of the shape of the normalised axes, from
    norm_parameters(), as is s. `centred`: a layer norm; else an RMS norm. To the bit:

      n, e = normalise_even(2^14 V + round(2^14 E))      V and E as above; at least 1
      z[i] = high(D[i] * 2^t, rsqrt(n))                  t = unit - 7 - e; if t < 0,
                                                         high(D[i], floor(rsqrt(n) * 2^t))
      y[i] = zero + floor((high(z[i], m[i]) + c[i]) / 2^s + 1/2)
    """

    name: ClassVar[str] = "layer_norm_s8"
    eps: float
    s: int
    x: Quant
    y: Quant
    centred: bool = True

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].shape, DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, m, c = (a.astype(np.int64) for a in arrays)
        n = m.size
        rows = x.reshape(-1, n)
        sums, squares = (v.sum(axis=1, keepdims=True) for v in (rows, rows**2))
        centre = sums if self.centred else n * self.x.zero + 0 * sums
        v = n * squares - 2 * sums * centre + centre**2
        norm, e = normalise_even((v << _FRACTION) + self._epsilon(n))
        t = _unit(n) - 7 - e
        d = n * rows - centre << np.maximum(t, 0)
        z = high(d, rsqrt(norm) >> np.maximum(-t, 0))
        y = high(z, m.reshape(-1)) + c.reshape(-1) + (1 << (self.s - 1)) >> self.s
        y = np.clip(y + self.y.zero, self.y.lo, self.y.hi)
        return np.asarray(y.astype(np.int8).reshape(x.shape))

    def _epsilon(self, n: int) -> int:
        return max(1, round(n * n * self.eps / self.x.scale**2 * 2.0**_FRACTION))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        x, m, c = node.inputs
        n = m.type.size
        if n > MAX_LENGTH or self.s < 1 or self._epsilon(n) >= 1 << 62:
            raise Unsupported(
                f"a norm over {n} elements from steps of {self.x.scale:.3g} to steps of "
                f"{self.y.scale:.3g} is not supported in integers",
                "keep it in float",
            )
        start = (self.y.zero << self.s) + (1 << (self.s - 1))
        lo = np.arange(prod(x.type.dims) // n) * n
        hi = lo + n  # within a row, x[i] is read for the last time before y[i] is written
        return Kernel(
            header="layer_norm_s8",
            function="emx_layer_norm_s8" if self.centred else "emx_rms_norm_s8",
            inputs={"x": 0},
            params={
                "rows": len(lo), "len": n, "epsilon": self._epsilon(n), "x_zero": self.x.zero,
                "unit": _unit(n), "s": self.s, "lo": self.y.lo, "hi": self.y.hi,
            },
            key=("s",),
            weights={"m": constants[m.name], "c": constants[c.name] + np.int32(start)},
            overlap={"x": Trace(lo, hi, lo, hi)},
            types={"x": "int8_t", "m": "int32_t", "c": "int32_t", "y": "int8_t"},
        )  # fmt: skip


ATEN: dict[str, Lowering] = {}

SAMPLES = (
    Sample("aten.layer_norm.default", Q(1), [1], y=(0.03, 0)),
    Sample("aten.layer_norm.default", Q(3, 5, 8, zero=11), [8], P(8), P(8), y=(0.02, -3)),
    Sample("aten.layer_norm.default", Q(2, 3, 4, scale=1e-3), [3, 4], P(3, 4), None, y=(0.03, 0)),
    Sample("aten.rms_norm.default", Q(3, 33, zero=-128), [33], P(33), 1e-3, y=(0.02, 0)),
)
