# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU layers of int8: rnn.py in integers.

x and h are int8, and so are the weights, with a scale for each row. The sums of the gates become
numbers in 2^-12; sigmoid and tanh are straight lines between the entries of a table; what a unit
remembers, c or h, has 32 bits, in 2^-15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Lowering
from emx.fixed import sigmoid, tanh
from emx.ir import Array, DType, Node, Op, TensorType, Unsupported
from emx.kernel import Kernel, Trace
from emx.packing_s8 import BLOCK, pack_weights, padded_depth
from emx.quant import MAX_SHIFT, Multiplier, Quant, fits_left, requantise
from emx.sample import Sample
from emx.target import Target

GATES = {"lstm": 4, "gru": 3}
UNIT = 12  # bits of the fraction of a gate's sum
STATE = 15  # of c and h, and of sigmoid and tanh
LIMIT = 1 << 16  # of a gate's sum: 16
MOST = 1 << 14  # of |c|: what a step adds is below 1
WIDEST = 1 / 64  # scale of h, which is between -1 and 1


def row_parameters(
    w: Array, u: Array, b: Array, x: Quant, h: Quant
) -> tuple[Array, Array, Array, int]:
    """Of the reals w [dirs][rows][in], u [dirs][rows][units] and b [dirs][2][rows], what x and h
    add: w and u in int8; q int32 [dirs][4][rows], two biases and two multipliers of each row; and
    the shift. The sum of a row in 2^-UNIT is

      ((q0 + w (x - x.zero)) * q2 + (q1 + u (h - h.zero)) * q3) / 2^shift
    """
    (w, w_scale), (u, u_scale) = _rows(w), _rows(u)
    scale = np.stack([w_scale * x.scale, u_scale * h.scale], axis=1)
    shift = Multiplier.of(float(scale.max(initial=0)) * 2.0**UNIT).shift
    bias = np.clip(np.rint(b / scale), -(1 << 30), 1 << 30)
    m = np.minimum(np.rint(scale * 2.0 ** (UNIT + shift)), (1 << 31) - 1)
    return w, u, np.concatenate([bias, m], axis=1).astype(np.int32), shift


def _rows(w: Array) -> tuple[Array, Array]:
    """Rows in steps of their own, from -127 to 127, and these steps."""
    most = np.abs(w.astype(np.float64)).max(axis=-1, initial=0)
    scale = np.where(most > 0, most, 1.0) / 127
    return np.rint(w / scale[..., None]).astype(np.int8), scale


@dataclass(frozen=True)
class RecurrentS8(Op):
    """Inputs x s8 [steps][batch][in], h0 s8 [dirs][batch][units], of an LSTM c0 like h0; and
    constants, from row_parameters(), as is `shift`: w s8 [dirs][gates * units][in], u s8
    [dirs][gates * units][units] and q s32 [dirs][4][gates * units]; and the table of tanh. Gates
    are PyTorch's; the output is that of Recurrent, without the cell state.

    To the bit, with a[g] = floor(v[g] / 2^shift + 1/2), v[g] the sum above, from -LIMIT to
    LIMIT - 1, and all other numbers in 2^-15:

      lstm  c = floor((sigmoid(a[1]) * c + sigmoid(a[0]) * tanh(a[2])) / 2^15 + 1/2)
            h = floor(sigmoid(a[3]) * tanh(c) / 2^15 + 1/2)
      gru   n = tanh(p + floor(sigmoid(a[0]) * r / 2^15 + 1/2)), p and r what x and h add to a[2]
            h = n + floor(sigmoid(a[1]) * (h - n) / 2^15 + 1/2), h the last one, in 2^-15

    y = requantise(h) with the multiplier 2^-15 / h.scale; sigmoid and tanh are those of
    emx/fixed.py. c, and h of a GRU, start at floor((v - zero) * S / 2^7), S that of 2^22 scale.
    """

    name: ClassVar[str] = "rnn_s8"
    kind: str
    shift: int
    x: Quant
    h: Quant
    c: Quant | None = None  # of c0
    last: bool = False  # h after the last step only

    def infer(self, *types: TensorType) -> TensorType:
        (steps, batch, _), (dirs, _, units) = types[0].dims, types[1].dims
        return TensorType((1 if self.last else steps, batch, dirs * units), DType.S8)

    def reference(self, *arrays: Array) -> Array:
        x, h0, *c0, w, u, q, table = (a.astype(np.int64) for a in arrays)
        memory = self.c or self.h
        k0 = (c0[0] if c0 else h0) - memory.zero
        columns = []
        for d in range(len(w)):
            back = slice(None, None, -1 if d else 1)
            k = k0[d] * round(memory.scale * 2**22) >> 7
            rows = self._run(x[back] - self.x.zero, h0[d], k, (w[d], u[d], q[d], table))
            columns.append(rows[back])
        y = np.concatenate(columns, axis=-1).astype(np.int8)
        return y[-1:] if self.last else y

    def _run(self, x: Array, h: Array, k: Array, constants: tuple[Array, ...]) -> Array:
        """h after every step; k is what a unit remembers."""
        w, u, q, table = constants
        rows = np.empty((len(x), *h.shape), np.int64)
        one = self._multiplier()
        for t, row in enumerate(x):
            of_x = (q[0] + row @ w.T) * q[2]
            real, k = self._step(of_x, (q[1] + (h - self.h.zero) @ u.T) * q[3], k, table)
            rows[t] = h = requantise(real, one.m, one.shift, self.h, self.h.lo, self.h.hi)
            h = h.astype(np.int64)
        return rows

    def _step(self, x: Array, r: Array, k: Array, table: Array) -> tuple[Array, Array]:
        """From what x and the last h add to the gates to h in 2^-15 and the next k."""
        n, half = 2 * k.shape[-1], 1 << (STATE - 1)
        if self.kind == "lstm":
            sums = np.split(self._sums(x + r), 4, axis=-1)
            i, f, o = (sigmoid(table, sums[g], UNIT) for g in (0, 1, 3))
            k = f * k + i * tanh(table, sums[2], UNIT) + half >> STATE
            return o * tanh(table, k, STATE) + half >> STATE, k
        reset, z = np.split(sigmoid(table, self._sums((x + r)[:, :n]), UNIT), 2, axis=-1)
        of_h = reset * self._sums(r[:, n:]) + half >> STATE
        new = tanh(table, self._sums(x[:, n:]) + of_h, UNIT)
        k = new + (z * (k - new) + half >> STATE)
        return k, k

    def _sums(self, v: Array) -> Array:
        return np.asarray(np.clip(v + (1 << (self.shift - 1)) >> self.shift, -LIMIT, LIMIT - 1))

    def _multiplier(self) -> Multiplier:
        return Multiplier.of(2.0**-STATE / self.h.scale)

    def macs(self, node: Node) -> int:
        steps, batch, inner = node.inputs[0].type.dims
        dirs, _, units = node.inputs[1].type.dims
        return steps * batch * dirs * GATES[self.kind] * units * (inner + units)

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        steps, batch, inner = node.inputs[0].type.dims
        dirs, _, units = node.inputs[1].type.dims
        w, u, q, table = (constants[v.name] for v in node.inputs[-4:])
        q = self._folded(w, u, q.astype(np.int64), steps)
        depth, depth_h = (padded_depth(n, target) for n in (inner, units))
        memory, one = self.c or self.h, self._multiplier()
        return Kernel(
            header="rnn_s8",
            function=f"emx_{self.kind}_s8",
            inputs={k: i for i, k in enumerate(("x", "h0", "c0")[: 3 if self.c else 2])},
            params={
                "steps": steps, "batch": batch, "in": inner, "units": units, "dirs": dirs,
                "last": int(self.last), "depth": depth, "depth_h": depth_h,
                "left": self._left, "shift": self.shift + self._left - 32,
                "state_zero": memory.zero, "state_scale": round(memory.scale * 2**22),
                "m": one.m, "m_left": MAX_SHIFT - one.shift,
                "zero": self.h.zero, "lo": self.h.lo, "hi": self.h.hi,
            },
            key=(),
            weights={
                "w": np.stack([pack_weights(_tiles(v, units), 1, target) for v in w]),
                "u": np.stack([pack_weights(_tiles(v, units), 1, target) for v in u]),
                "q": np.stack([_tiles(v.T, units).reshape(-1, BLOCK, 4).swapaxes(1, 2) for v in q]),
                "table": table,
            },
            scratch_bytes=4 * units + (depth if depth > inner else 0) + 2 * depth_h,
            overlap={"x": self._trace(steps, inner, units)} if batch == dirs == 1 else {},
            types={**dict.fromkeys(("x", "h0", "c0", "w", "u", "y"), "int8_t"), "table": "int16_t"},
        )  # fmt: skip

    def _folded(self, w: Array, u: Array, q: Array, steps: int) -> Array:
        """q with the zero points in its biases. Unsupported if something might overflow."""
        terms = [v.astype(np.int64) for v in (w, u)]
        for i, (v, zero) in enumerate(zip(terms, (self.x.zero, self.h.zero), strict=True)):
            q[:, i] -= zero * v.sum(axis=-1)
        sums = [np.abs(q[:, i]) + 128 * np.abs(v).sum(axis=-1) for i, v in enumerate(terms)]
        both = sum(s.astype(np.float64) * q[:, 2 + i] for i, s in enumerate(sums)) * 2.0**self._left
        most = max(float(np.max(sums)) * 2.0**self._left, float(np.max(both)) / 2**31)
        far = steps + 256 * self.c.scale > MOST if self.c else False
        fine = not fits_left(self._multiplier().shift, 4 << STATE)
        if most >= 1 << 31 or self.shift < 1 or far or fine or self.h.scale > WIDEST:
            raise Unsupported(
                f"a {self.kind} of {steps} steps with h in steps of {self.h.scale:.3g} is not "
                "supported in integers",
                "keep it in float",
            )
        return q.astype(np.int32)

    @property
    def _left(self) -> int:
        """How far sums are shifted, so that of their products only the upper halves matter."""
        return max(0, 33 - self.shift)

    def _trace(self, steps: int, inner: int, units: int) -> Trace:
        """One sequence forwards: a row of x is read, then one of y written; or only the last."""
        t = np.arange(steps)
        wrote = (t == steps - 1) if self.last else t >= 0
        at = np.where(wrote, 0 if self.last else t * units, 0)
        return Trace(t * inner, (t + 1) * inner, at, at + np.where(wrote, units, 0))


def _tiles(rows: Array, units: int) -> Array:
    """[gates * units][n] -> [ceil(units / 4) * gates * 4][n]: of four units all gates."""
    n = rows.shape[-1]
    gates = rows.reshape(-1, units, n)
    padded = np.pad(gates, ((0, 0), (0, -units % BLOCK), (0, 0)))
    return padded.reshape(len(gates), -1, BLOCK, n).swapaxes(0, 1).reshape(-1, n)


ATEN: dict[str, Lowering] = {}

SAMPLES: tuple[Sample, ...] = ()
