# SPDX-License-Identifier: Apache-2.0
"""Models of sequences, quantised on export: integer end to end, to the bit on host and boards."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import emx
from emx import passes
from emx.bundle import Bundle
from emx.ir import DType, Graph
from emx.load import load
from emx.ops.layer_norm_s8 import LayerNormS8
from emx.ops.matmul_s8 import MatMulS8
from emx.ops.movement import Permute
from emx.ops.rnn_s8 import RecurrentS8
from emx.ops.softmax_s8 import SoftmaxS8
from emx.options import Options
from emx.twin import dequantised, run_twin
from many import run_together
from quant_models import ops
from test_rnn_s8 import digits, trained
from twins import MACHINES

pytest.importorskip("torchao")


class Block(nn.Module):
    """A transformer block whose attention is written with views."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, steps, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, steps, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Classifier(nn.Module):
    """PyTorch's own layer between an embedding and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 5)
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embed(x)).mean(1))


class LastState(nn.Module):
    """Reads h_n rather than the last step."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.reader, self.kind = trained(kind)[0], kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.reader.layer(x)[1]
        return self.reader.head((states[0] if self.kind == "lstm" else states)[-1])


def quantised(model: nn.Module, samples: torch.Tensor, name: str, folder: Path) -> Bundle:
    """First axis of the samples: sample."""
    np.savez(folder / f"{name}.npz", x=samples.numpy())
    program = torch.export.export(model.eval(), (samples[0].contiguous(),))
    return emx.export(
        program, quantize="int8", calibration=folder / f"{name}.npz", name=name, vectors=3
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sequences")


@cache
def bundle(name: str, folder: Path) -> Bundle:
    torch.manual_seed(0)
    rows = digits()[0].transpose(0, 1)[::20, :, None]
    models = {
        "block": lambda: (Block(), torch.randn(32, 1, 16, 32)),
        "classifier": lambda: (Classifier(), torch.randn(32, 1, 16, 8)),
        "lstm": lambda: (trained("lstm")[0], rows),
        "gru": lambda: (LastState("gru"), rows),
        "lstm_state": lambda: (LastState("lstm"), rows),
    }
    return quantised(*models[name](), name, folder)


NAMES = ("block", "classifier", "lstm", "gru", "lstm_state")


def optimised(b: Bundle) -> Graph:
    return passes.run(load(b), check=[x[0] for x in b.vectors.inputs.values()])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_is_integer_and_near_pytorch(name: str, folder: Path) -> None:
    b = bundle(name, folder)
    graph = optimised(b)
    assert graph.float_layers == ()
    assert all(v.type.dtype is not DType.F32 for n in graph.nodes for v in (*n.inputs, n.output))
    (v,), (y,) = graph.outputs, run_twin(graph, b.vectors).outputs.values()
    (want,) = b.vectors.outputs.values()
    off = np.abs(dequantised(graph.quants[v.name], y) - want) / graph.quants[v.name].scale
    assert off.max() < (1.5 if name in ("block", "classifier") else 8)
    assert np.array_equal(y.reshape(len(y), -1).argmax(1), want.reshape(len(y), -1).argmax(1))


@pytest.mark.slow
def test_heads_are_read_where_they_lie(folder: Path) -> None:
    """No copy of queries, keys and values, neither permuted nor scaled."""
    graph = optimised(bundle("block", folder))
    assert len(ops(graph, MatMulS8)) == 2 and len(ops(graph, SoftmaxS8)) == 1
    assert len(ops(graph, LayerNormS8)) == 2 and ops(graph, Permute) == []
    assert len(graph.nodes) <= 19


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_nets_read_digits_as_well(kind: str, folder: Path) -> None:
    graph = optimised(bundle(kind, folder))
    assert len(ops(graph, RecurrentS8)) == 1
    x, labels = digits()
    samples = x.transpose(0, 1)[3::9, :, None].numpy()
    b = bundle(kind, folder)
    vectors = replace(
        b.vectors,
        inputs=dict.fromkeys(b.vectors.inputs, samples),
        outputs={n: np.zeros((len(samples), *y.shape[1:])) for n, y in b.vectors.outputs.items()},
    )
    (y,) = run_twin(graph, vectors).outputs.values()
    with torch.no_grad():
        want = trained(kind)[0](x[:, 3::9])
    guesses = (torch.as_tensor(v).reshape(len(samples), -1).argmax(1) for v in (want, y))
    right, ours = (float((g == labels[3::9]).float().mean()) for g in guesses)
    assert right > 0.8 and ours > right - 0.02


class Step(nn.Module):
    """Takes its state and gives it back."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.layer(x, h)
        y, state = y if isinstance(y, tuple) else (y, y)
        return self.head(y), state


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "steps"), [(nn.GRU(8, 16), (1,)), (nn.GRUCell(8, 16), ())])
def test_a_state_has_one_scale(layer: nn.Module, steps: tuple[int, ...], tmp_path: Path) -> None:
    """What a call gives the next one takes."""
    torch.manual_seed(0)
    x, h = torch.randn(32, *steps, 1, 8), torch.rand(32, *steps, 1, 16) * 2 - 1
    np.savez(tmp_path / "c.npz", x=x.numpy(), h=h.numpy())
    program = torch.export.export(Step(layer).eval(), (x[0], h[0]))
    graph = optimised(emx.export(program, quantize="int8", calibration=tmp_path / "c.npz"))
    assert graph.float_layers == () and len(ops(graph, RecurrentS8)) == 1
    assert graph.quants[graph.inputs[1].name] == graph.quants[graph.outputs[1].name]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_c_is_the_twin(machine: str, folder: Path, tmp_path: Path) -> None:
    bundles = [bundle(name, folder) for name in NAMES]
    run_together(bundles, tmp_path, machine, MACHINES[machine], Options(test=True, taps=True))
