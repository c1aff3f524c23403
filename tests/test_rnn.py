# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks of torch.nn with all their outputs, exported and run on the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import emx
from emx import passes
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.load import load
from emx.ops.rnn import Recurrent
from many import SANITIZE, run_together


class Flat(nn.Module):
    """y, h_n and c_n as three outputs; states given as inputs or left out."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hx: Any = states if len(states) > 1 else states[0] if states else None
        y, h = self.inner(x, hx)
        return (y, *h) if isinstance(h, tuple) else (y, h)


NETWORKS: tuple[tuple[Callable[..., nn.Module], dict[str, Any], int, bool], ...] = (
    (nn.LSTM, {}, 1, False),
    (nn.LSTM, {"num_layers": 3, "bidirectional": True}, 2, True),
    (nn.LSTM, {"num_layers": 2, "bias": False, "batch_first": True}, 1, True),
    (nn.GRU, {"bidirectional": True, "batch_first": True}, 2, True),
    (nn.GRU, {"num_layers": 2}, 1, False),
    (nn.RNN, {"num_layers": 2, "bidirectional": True}, 1, False),
    (nn.RNN, {"nonlinearity": "relu"}, 2, True),
)


def bundle_of(i: int, steps: int) -> Bundle:
    make, options, batch, stateful = NETWORKS[i]
    torch.manual_seed(i)
    model = make(5, 6, **options).eval()
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    shape = (batch, steps) if options.get("batch_first") else (steps, batch)
    states = [torch.rand(rows, batch, 6) for _ in range(2 if make is nn.LSTM else 1)]
    arguments = (torch.rand(*shape, 5), *(states if stateful else ()))
    return emx.export(Flat(model).eval(), arguments, name=f"rnn{i}_{steps}", vectors=2)


@pytest.mark.slow
def test_all_outputs_are_pytorchs(tmp_path: Path) -> None:
    bundles = [bundle_of(i, steps) for i in range(len(NETWORKS)) for steps in (1, 9)]
    options = emx.Options(test=True, taps=True)
    output = run_together(bundles, tmp_path, "host", SANITIZE, options)
    assert output.count("agrees with PyTorch") >= 2 * sum(
        3 if make is nn.LSTM else 2 for make, *_ in NETWORKS
    )


def test_a_projected_lstm_is_refused(tmp_path: Path) -> None:
    model = Flat(nn.LSTM(3, 4, proj_size=2)).eval()
    bundle = emx.export(model, (torch.rand(2, 1, 3),), name="net")
    with pytest.raises(EmxError, match="lstm with proj_size is not supported"):
        emx.compile(bundle, target="host", out_dir=tmp_path)


class Head(nn.Module):
    """A layer of which a classifier reads one row, found in one of three ways."""

    def __init__(self, make: Callable[..., nn.Module], way: str, layers: int) -> None:
        super().__init__()
        self.rnn = make(5, 6, layers, batch_first=True)
        self.way = way
        self.classify = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, h = self.rnn(x)
        if self.way == "last y":
            return self.classify(y[:, -1])
        if self.way.startswith("h_n"):
            return self.classify((h[0] if isinstance(h, tuple) else h)[-1])
        return self.classify(y)


HEADS = {"y": 2, "last y": 2, "h_n": 2, "h_n of one": 1}  # and the number of layers


def head_of(make: Callable[..., nn.Module], way: str) -> Bundle:
    torch.manual_seed(3)
    name = f"{make.__name__.lower()}_{way.replace(' ', '_')}"
    return emx.export(
        Head(make, way, HEADS[way]).eval(), (torch.rand(1, 9, 5),), name=name, vectors=2
    )


@pytest.mark.parametrize("way", HEADS)
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_only_what_is_read_is_kept(make: Callable[..., nn.Module], way: str) -> None:
    graph = passes.run(load(head_of(make, way)))
    layers = [n.op for n in graph.nodes if isinstance(n.op, Recurrent)]
    assert len(layers) == HEADS[way] and not any(op.cell for op in layers)
    assert [op.last for op in layers] == [False] * (HEADS[way] - 1) + [way != "y"]
    assert {n.op.name for n in graph.nodes} <= {"rnn", "linear", "reshape"}, str(graph)


@pytest.mark.slow
@pytest.mark.parametrize("io_arena", [False, True])
def test_it_is_computed_in_place(tmp_path: Path, io_arena: bool) -> None:
    bundles = [head_of(make, way) for make in (nn.LSTM, nn.GRU, nn.RNN) for way in HEADS]
    options = emx.Options(test=True, taps=True, io_arena=io_arena)
    run_together(bundles, tmp_path, "host", SANITIZE, options)
