# SPDX-License-Identifier: Apache-2.0
"""LSTM (Hochreiter, Schmidhuber, 1997), GRU (Cho et al., 2014) and plain recurrent layers.

A node is one layer, in one direction or both; more layers are more nodes. Its output holds h after
every step, and for an LSTM the last cell state c in a row before: y, h_n and c_n are parts of it.
What of this nobody reads, a pass takes away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Trace
from emx.sample import P, Sample, X

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
TILE = 4  # units of which the kernel computes all gates at once


@dataclass(frozen=True)
class Recurrent(Op):
    """Inputs x [steps][batch][in], h0 [dirs][batch][units], c0 like h0 if it is an LSTM,
    w [dirs][gates * units][in], u [dirs][gates * units][units] and b [dirs][biases * units];
    a GRU has a fourth bias, which its reset gate scales too."""

    name: ClassVar[str] = "rnn"
    kind: str
    cell: bool = False  # the first row is c after the last step
    last: bool = False  # h after the last step only

    def infer(self, *types: TensorType) -> TensorType:
        x, h0 = types[:2]
        (steps, batch, _), (dirs, _, units) = x.dims, h0.dims
        return TensorType((self.cell + (1 if self.last else steps), batch, dirs * units))

    def reference(self, *arrays: Array) -> Array:
        x, h0, *c0, w, u, b = arrays
        columns = []
        for d in range(len(w)):
            back = slice(None, None, -1 if d else 1)
            c = c0[0][d] if c0 else h0[d]
            rows, c = self._run(x[back], h0[d], c, (w[d], u[d], b[d]))
            columns.append(np.concatenate([c[None]] * self.cell + [rows[back]]))
        if self.last:
            columns = [np.concatenate([y[: self.cell], y[-1:]]) for y in columns]
        return np.concatenate(columns, axis=-1)

    def _run(
        self, x: Array, h: Array, c: Array, parameters: tuple[Array, Array, Array]
    ) -> tuple[Array, Array]:
        """h after every step and c after the last."""
        w, u, b = parameters
        rows = np.empty((len(x), *h.shape), x.dtype)
        for t, row in enumerate(x):
            h, c = self._step(row @ w.T, h @ u.T, b, h, c)
            rows[t] = h
        return rows, c

    def _step(self, x: Array, r: Array, b: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """From what x and the last h add to the gates to the next h and c."""
        n = h.shape[-1]
        if self.kind == "gru":
            a = x[:, : 2 * n] + r[:, : 2 * n] + b[: 2 * n]
            reset, z = _sigmoid(a[:, :n]), _sigmoid(a[:, n:])
            new = np.tanh(x[:, 2 * n :] + b[2 * n : 3 * n] + reset * (r[:, 2 * n :] + b[3 * n :]))
            return new + z * (h - new), c
        a = x + r + b
        if self.kind == "lstm":
            i, f, g, o = np.split(a, 4, axis=-1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            return _sigmoid(o) * np.tanh(c), c
        return np.tanh(a) if self.kind == "rnn_tanh" else np.maximum(a, 0), c

    def macs(self, node: Node) -> int:
        steps, batch, inner = node.inputs[0].type.dims
        dirs, _, units = node.inputs[1].type.dims
        return steps * batch * dirs * GATES[self.kind] * units * (inner + units)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        steps, batch, inner = node.inputs[0].type.dims
        dirs, _, units = node.inputs[1].type.dims
        w, u, b = (constants[v.name] for v in node.inputs[-3:])
        gates, padded = GATES[self.kind], -(-units // TILE) * TILE
        states = ("h0", "c0") if self.kind == "lstm" else ("h0",)
        alone = batch == 1 and dirs == 1
        return Kernel(
            header="rnn",
            function=f"emx_{self.kind}_f32",
            inputs={k: i for i, k in enumerate(("x", *states))},
            params={
                "steps": steps, "batch": batch, "in": inner, "units": units, "dirs": dirs,
                "cell": int(self.cell), "last": int(self.last),
            },
            key=(),
            weights={"w": _pack(w, units), "u": _pack(u, units), "b": _pack(b[..., None], units)},
            scratch_bytes=4 * (4 * gates * padded + 3 * units),
            overlap={"x": self._trace(steps, inner, units)} if alone else {},
        )  # fmt: skip

    def _trace(self, steps: int, inner: int, units: int) -> Trace:
        """One sequence forwards: c0 is copied, then four rows of x are read and four of y written,
        and c again; or y only at the end."""
        c = self.cell * units
        events = [(0, 0, 0, c)]
        at = 0
        while at < steps:
            rows = 4 if at + 4 <= steps else 1
            y = (
                (c, c + units * (at + rows == steps))
                if self.last
                else (c + at * units, c + (at + rows) * units)
            )
            events += [(at * inner, (at + rows) * inner, 0, c), (0, 0, *y)]
            at += rows
        lo, hi, write_lo, write_hi = np.array(events, np.int64).T * 4
        return Trace(lo, hi, write_lo, write_hi)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _pack(w: Array, units: int) -> Array:
    """[dirs][gates * units][in] -> [dirs][ceil(units/4)][gates][in][4], zero-padded."""
    dirs, rows, inner = w.shape
    tiles = -(-units // TILE)
    padded = np.zeros((dirs, rows // units, tiles * TILE, inner), w.dtype)
    padded[:, :, :units] = w.reshape(dirs, -1, units, inner)
    tiled = padded.reshape(dirs, -1, tiles, TILE, inner)
    return np.ascontiguousarray(tiled.transpose(0, 2, 1, 4, 3))


def _bias(kind: str, parts: Sequence[Array], units: int) -> Array:
    """One bias for each gate; of the third gate of a GRU two, that of x and that of h."""
    x, h = parts
    if kind != "gru":
        return np.asarray(x + h)
    n = 2 * units
    return np.concatenate([x[:n] + h[:n], x[n:], h[n:]])


def _layer(
    b: Builder, kind: str, x: Value, states: Sequence[Value], params: Sequence[Sequence[Value]],
    label: str,
) -> Value:  # fmt: skip
    """One layer; `params` are (w_ih, w_hh) or (w_ih, w_hh, b_ih, b_hh) for each direction."""
    what = f"a weight of {kind}"
    data = [[b.data(v, what) for v in direction] for direction in params]
    units = data[0][1].shape[1]
    none = np.zeros(len(data[0][0]), np.float32)
    biases = [_bias(kind, d[2:] or (none, none), units) for d in data]
    constants = (
        b.constant(np.stack([d[0] for d in data]), f"weight{label}", beside=params[0][0]),
        b.constant(np.stack([d[1] for d in data]), f"recurrent{label}", beside=params[0][0]),
        b.constant(np.stack(biases), f"bias{label}", beside=params[0][0]),
    )
    return b.node(Recurrent(kind, cell=kind == "lstm"), x, *states, *constants)


def _rows(b: Builder, x: Value, axis: int, start: int, end: int) -> Value:
    if (start, end) == (0, x.type.dims[axis]):
        return x
    return b.aten("aten.slice.Tensor", x, axis, start, end)


def _joined(b: Builder, parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else b.aten("aten.cat.default", parts, 0)


def _last_hidden(b: Builder, h: Value, dirs: int) -> list[Value]:
    """Of each direction h [1][batch][units] after its last step."""
    steps, _, width = h.type.dims
    ends = ((steps - 1, 0), (0, width // 2))[:dirs]
    rows = [(_rows(b, h, 0, t, t + 1), at) for t, at in ends]
    return [_rows(b, row, 2, at, at + width // dirs) for row, at in rows]


def _last_cell(b: Builder, c: Value, dirs: int) -> Value:
    """[1][batch][dirs * units] -> [dirs][batch][units]"""
    _, batch, width = c.type.dims
    split = b.aten("aten.reshape.default", c, (batch, dirs, width // dirs))
    return b.aten("aten.permute.default", split, (1, 0, 2))


def _network(kind: str) -> Lowering:
    """aten.lstm.input, aten.gru.input, ...: y [steps][batch][dirs * units], h_n and c_n
    [layers * dirs][batch][units]."""

    def lower(
        b: Builder, x: Value, hx: Value | Sequence[Value], params: Sequence[Value],
        has_biases: bool, layers: int, dropout: float, train: bool, bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Value, ...]:  # fmt: skip
        states = (hx,) if isinstance(hx, Value) else tuple(hx)
        require_f32(x, *states)
        dirs, each = (2 if bidirectional else 1), (4 if has_biases else 2)
        if len(params) != layers * dirs * each:
            raise Unsupported(f"{kind} with proj_size is not supported", "project y by a Linear")
        groups = [params[i : i + each] for i in range(0, len(params), each)]
        h = b.aten("aten.permute.default", x, (1, 0, 2)) if batch_first else x
        hidden: list[Value] = []
        cells: list[Value] = []
        for n in range(layers):
            at = slice(n * dirs, (n + 1) * dirs)
            first = [_rows(b, s, 0, at.start, at.stop) for s in states]
            y = _layer(b, kind, h, first, groups[at], f"_l{n}")
            if kind == "lstm":
                cells.append(_last_cell(b, _rows(b, y, 0, 0, 1), dirs))
            h = _rows(b, y, 0, len(cells) and 1, y.type.dims[0])
            hidden += _last_hidden(b, h, dirs)
        y = b.aten("aten.permute.default", h, (1, 0, 2)) if batch_first else h
        return (y, _joined(b, hidden), *([_joined(b, cells)] if cells else ()))

    return lower


def _cell(kind: str) -> Lowering:
    """aten.lstm_cell and its like: one step, x [batch][in]."""

    def lower(
        b: Builder, x: Value, hx: Value | Sequence[Value], *params: Value | None
    ) -> Value | tuple[Value, ...]:
        states = (hx,) if isinstance(hx, Value) else tuple(hx)
        require_f32(x, *states)
        first = [b.aten("aten.unsqueeze.default", v, 0) for v in (x, *states)]
        given = [v for v in params if v is not None]
        y = _layer(b, kind, first[0], first[1:], [given], "")
        rows = [b.aten("aten.select.int", y, 0, i) for i in range(y.type.dims[0])]
        return (rows[1], rows[0]) if kind == "lstm" else rows[0]

    return lower


ATEN: dict[str, Lowering] = {
    **{f"aten.{kind}.input": _network(kind) for kind in GATES},
    **{f"aten.{kind}_cell.default": _cell(kind) for kind in GATES},
}


def _params(gates: int, inner: int, units: int, biases: bool = True) -> tuple[object, ...]:
    rows = gates * units
    weights = (P(rows, inner), P(rows, units))
    return (*weights, P(rows), P(rows)) if biases else weights


SAMPLES = (
    Sample(
        "aten.lstm_cell.default", X(1, 1), (X(1, 1), X(1, 1)), *_params(4, 1, 1, False), outputs=2
    ),
    Sample("aten.lstm_cell.default", X(2, 3), (X(2, 5), X(2, 5)), *_params(4, 3, 5), outputs=2),
    Sample("aten.gru_cell.default", X(2, 3), X(2, 5), *_params(3, 3, 5)),
    Sample("aten.rnn_tanh_cell.default", X(2, 3), X(2, 5), *_params(1, 3, 5)),
    Sample("aten.rnn_relu_cell.default", X(2, 3), X(2, 5), *_params(1, 3, 5, False)),
    Sample(
        "aten.lstm.input", X(1, 1, 2), (X(1, 1, 3), X(1, 1, 3)), _params(4, 2, 3),
        True, 1, 0.0, False, False, False, outputs=3,
    ),
    Sample(
        "aten.lstm.input", X(9, 1, 6), (X(1, 1, 8), X(1, 1, 8)), _params(4, 6, 8, False),
        False, 1, 0.0, False, False, False, outputs=3,
    ),
    Sample(
        "aten.lstm.input", X(2, 6, 3), (X(4, 2, 5), X(4, 2, 5)),
        (*_params(4, 3, 5), *_params(4, 3, 5), *_params(4, 10, 5), *_params(4, 10, 5)),
        True, 2, 0.0, False, True, True, outputs=3,
    ),
    Sample(
        "aten.gru.input", X(5, 1, 3), X(1, 1, 6), _params(3, 3, 6),
        True, 1, 0.0, False, False, False, outputs=2,
    ),
    Sample(
        "aten.gru.input", X(2, 7, 4), X(2, 2, 3), (*_params(3, 4, 3), *_params(3, 4, 3)),
        True, 1, 0.0, False, True, True, outputs=2,
    ),
    Sample(
        "aten.rnn_tanh.input", X(6, 1, 4), X(2, 1, 4), (*_params(1, 4, 4), *_params(1, 4, 4)),
        True, 2, 0.0, False, False, False, outputs=2,
    ),
    Sample(
        "aten.rnn_relu.input", X(4, 2, 3), X(1, 2, 5), _params(1, 3, 5, False),
        False, 1, 0.0, False, False, False, outputs=2,
    ),
)  # fmt: skip
