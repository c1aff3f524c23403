# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers of int8: their C equals the twin, the twin is near the float layer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from emx.bundle import Bundle
from emx.fixed import sigmoid, tanh, tanh_table
from emx.ir import Array, DType, Unsupported
from emx.ops.movement import Slice
from emx.ops.rnn_s8 import GATES, RecurrentS8, row_parameters
from emx.options import Options
from emx.quant import Quant
from emx.target import find_target
from emx.twin import run_twin
from many import run_together
from quant_models import Model, ops, optimised
from twins import MACHINES, Case, overlap_cases, run_cases, s8

R = np.random.default_rng(4)
TABLE = tanh_table()
HIDDEN = 32
UNIT = Quant(1 / 128)
Parameters = tuple[Array, Array, Array]  # w, u and b [dirs][2][rows]


def case_of(
    name: str, kind: str, x: Array, parameters: Parameters, q: Quant, h: Quant, *,
    last: bool = False, states: tuple[Array, ...] = (),
) -> Case:  # fmt: skip
    """x s8 [vectors][steps][batch][in]; states are zero unless given."""
    w, u, p, shift = row_parameters(*parameters, q, h)
    c = Quant(1 / 32, 3) if kind == "lstm" else None
    op = RecurrentS8(kind, shift, q, h, c, last)
    zeros = np.zeros((len(x), len(w), x.shape[2], u.shape[-1]), np.int8)
    start = states or (zeros + np.int8(h.zero), *((zeros + np.int8(3),) if c else ()))
    return Case(name, op, (x, *start), (w, u, p, TABLE))


def random_case(
    name: str, kind: str, steps: int, batch: int, inner: int, units: int, dirs: int = 1,
    last: bool = False, h: Quant = UNIT,
) -> Case:  # fmt: skip
    rows = GATES[kind] * units
    shapes = (dirs, rows, inner), (dirs, rows, units), (dirs, 2, rows)
    w, u, b = (R.normal(0, 0.5, s).astype(np.float32) for s in shapes)
    state = s8(R, 2, dirs, batch, units)
    states = (state, s8(R, *state.shape)) if kind == "lstm" else (state,)
    x = s8(R, 2, steps, batch, inner)
    return case_of(name, kind, x, (w, u, b), Quant(0.02, -7), h, last=last, states=states)


CASES = [
    random_case("lstm_0", "lstm", 1, 1, 1, 1),
    random_case("lstm_1", "lstm", 9, 1, 16, 8, h=Quant(1 / 200, 9, lo=-120)),
    random_case("lstm_2", "lstm", 5, 3, 7, 6, dirs=2),
    random_case("lstm_3", "lstm", 6, 1, 5, 9, last=True),
    random_case("gru_0", "gru", 1, 1, 1, 1),
    random_case("gru_1", "gru", 9, 1, 16, 8),
    random_case("gru_2", "gru", 5, 2, 7, 6, dirs=2, last=True),
    random_case("gru_3", "gru", 40, 1, 5, 13, h=Quant(1 / 64, -90)),
]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_c_is_the_twin(tmp_path: Path, machine: str) -> None:
    run_cases(CASES, tmp_path, machine)


def test_kernels_work_in_place(tmp_path: Path) -> None:
    overlap_cases(CASES, tmp_path, "host")


def test_fixed_point_functions() -> None:
    for bits in (12, 13, 15):
        x = np.arange(-(10 << bits), 10 << bits, 37)
        real = x / 2**bits
        assert np.abs(tanh(TABLE, x, bits) / 2**15 - np.tanh(real)).max() < 1.3e-4
        want = 1 / (1 + np.exp(-real))
        assert np.abs(sigmoid(TABLE, x, bits) / 2**15 - want).max() < 1e-4


class Reader(torch.nn.Module):
    """Reads images row by row."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](28, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][-1])


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 handwritten digits of 28x28 from -1 to 1, [row][image][column], and what they are."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    large = torch.nn.functional.interpolate(small, (28, 28), mode="bilinear")
    return large[:, 0].transpose(0, 1).contiguous(), torch.tensor(labels)


@cache
def trained(kind: str) -> tuple[Reader, float]:
    """And the share of the digits that it recognises."""
    torch.manual_seed(1)
    x, labels = digits()
    model = Reader(kind)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[:, ::4]), labels[::4]).backward()
        optimiser.step()
    with torch.no_grad():
        return model.eval(), float((model(x).argmax(1) == labels).float().mean())


def parameters_of(layer: torch.nn.RNNBase, kind: str) -> Parameters:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (getattr(layer, n).detach().numpy() for n in names)
    return w[None], u[None], np.stack([b, c])[None]


def quant_of(x: Array) -> Quant:
    """Of the range of x, as an observer would find it."""
    lo, hi = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (hi - lo) / 255
    return Quant(scale, round(-128 - lo / scale))


@pytest.mark.slow
@pytest.mark.parametrize("observed", [True, False], ids=["observed", "fixed"])
@pytest.mark.parametrize("kind", GATES)
def test_a_trained_layer_keeps_30_db(kind: str, observed: bool) -> None:
    model, accuracy = trained(kind)
    assert accuracy > 0.8
    x = digits()[0][:, 1::40].contiguous()
    with torch.no_grad():
        want = model.layer(x)[0].numpy()
    q, h = quant_of(x.numpy()), quant_of(want) if observed else UNIT
    case = case_of(kind, kind, q.quantise(x.numpy())[None], parameters_of(model.layer, kind), q, h)
    got = h.dequantise(case.outputs()[0])
    noise = float(((got - want) ** 2).mean())
    assert 10 * np.log10(float((want**2).mean()) / noise) >= 35


def test_what_might_overflow_is_refused() -> None:
    case = random_case("wide", "lstm", 3, 1, 4, 4, h=Quant(0.5))
    graph = case.graph()
    with pytest.raises(Unsupported, match=r"lstm of 3 steps with h in steps of 0\.5"):
        case.op.kernel_for(graph.nodes[0], graph.constants, find_target("generic"))


def network(kind: str, layers: int, both: bool, output: int, batch_first: bool = False) -> Bundle:
    """A call between dequantise and quantise; output 0 is all of h, 1 the last of each layer."""
    m, dirs, each = Model(), 2 if both else 1, GATES[kind]
    shape = (1, 9, 12) if batch_first else (9, 1, 12)
    zeros = m.tensor("zeros", np.zeros((layers * dirs, 1, 8), np.float32))
    shapes = [
        dims
        for n in range(layers * dirs)
        for dims in (
            (each * 8, 8 * dirs if n >= dirs else 12),
            (each * 8, 8),
            (each * 8,),
            (each * 8,),
        )
    ]
    parameters = [
        m.tensor(f"p{i}", R.normal(0, 0.3, s).astype(np.float32)) for i, s in enumerate(shapes)
    ]
    states = (zeros, zeros) if kind == "lstm" else zeros
    given = (states, tuple(parameters), True, layers, 0.0, False, both, batch_first)
    outputs = m.add("layer", f"aten.{kind}.input", (m.x(*shape), *given))
    return m.made(m.q(outputs[output], 1 / 128))


NETWORKS = {
    f"{kind}_{layers}_{'both' if both else 'one'}_{output}": network(kind, layers, both, output)
    for kind in GATES
    for layers, both, output in ((1, False, 0), (1, True, 0), (2, True, 0), (1, False, 1))
} | {"lstm_batch_first": network("lstm", 1, False, 0, True), "gru_2": network("gru", 2, False, 1)}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_of_a_model_become_integer(name: str) -> None:
    bundle = NETWORKS[name]
    graph = optimised(bundle)
    assert graph.float_layers == ()
    assert all(v.type.dtype is not DType.F32 for n in graph.nodes for v in n.inputs)
    (y,) = run_twin(graph, bundle.vectors).outputs.values()
    want = next(iter(bundle.vectors.outputs.values()))
    off = UNIT.dequantise(y) - want
    assert 10 * np.log10((want**2).mean() / (off**2).mean()) > 30


def test_the_last_step_alone_is_kept() -> None:
    last = ops(optimised(NETWORKS["lstm_1_one_1"]), RecurrentS8, Slice)
    assert [getattr(op, "last", None) for op in last] == [True]


@pytest.mark.slow
def test_networks_on_the_host(tmp_path: Path) -> None:
    bundles = [replace(b, name=name) for name, b in NETWORKS.items()]
    run_together(bundles, tmp_path, "host", MACHINES["host"], Options(test=True, taps=True))


def reason(kind: str, output: int, state: tuple[float, int] | None = None) -> str:
    """Why one layer, whose first state is zero or has this scale and zero point, is float."""
    m, gates = Model(), GATES.get(kind, 1)
    zeros = m.tensor("zeros", np.zeros((1, 1, 2), np.float32))
    h0 = m.x(1, 1, 2, scale=state[0], zero=state[1]) if state else zeros
    shapes = ((gates * 2, 3), (gates * 2, 2), (gates * 2,), (gates * 2,))
    parameters = tuple(m.tensor(f"p{i}", np.ones(s, np.float32)) for i, s in enumerate(shapes))
    states = (h0, zeros) if kind == "lstm" else h0
    given = (states, parameters, True, 1, 0.0, False, False, False)
    outputs = m.add("layer", f"aten.{kind}.input", (m.x(4, 1, 3), *given))
    (layer,) = optimised(m.made(m.q(outputs[output], 1 / 128))).float_layers
    return layer.reason


def test_what_stays_float_says_why() -> None:
    none = "emx has no int8 form of "
    assert reason("lstm", 2) == f"{none}an LSTM whose cell state is read"
    assert reason("rnn_tanh", 0) == f"{none}rnn_tanh"
    assert reason("gru", 0, (0.01, 3)) == "its first state has another scale than h"
