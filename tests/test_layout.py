# SPDX-License-Identifier: Apache-2.0
"""Permutes and reshapes on their way: the values stay, and what should cancel does."""

from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest
import torch
from torch import nn

import emx
from emx import passes
from emx.builder import Builder
from emx.interpret import outputs
from emx.ir import Graph, Origin, TensorType, Value, verify
from emx.load import load
from emx.ops import lowerings
from emx.passes.layout import drop_idle_permutes, merge_permutes, sink_permutes
from emx.passes.reshape import Group, groups_of

EXTENTS = (1, 1, 2, 3, 4, 6)


def factors(pick: random.Random, size: int) -> list[int]:
    """Extents with this product, some of them 1."""
    found = []
    while size > 1:
        found.append(pick.choice([n for n in range(2, size + 1) if size % n == 0]))
        size //= found[-1]
    for _ in range(pick.randint(0, 2)):
        found.insert(pick.randint(0, len(found)), 1)
    return found[:6] if prod(found[:6]) == prod(found) else found


def regrouped(pick: random.Random, dims: list[int]) -> list[int]:
    """A reshape as people write them: neighbours merged, an axis split, axes of 1 come and go."""
    shape = list(dims)
    for _ in range(pick.randint(1, 3)):
        i = pick.randint(0, len(shape) - 1) if shape else 0
        kind = pick.choice(("merge", "split", "add", "drop"))
        if kind == "merge" and i + 1 < len(shape):
            shape[i : i + 2] = [shape[i] * shape[i + 1]]
        elif kind == "split" and shape and shape[i] > 1:
            shape[i : i + 1] = factors(pick, shape[i])
        elif kind == "add":
            shape.insert(i, 1)
        elif kind == "drop" and 1 in shape:
            shape.remove(1)
    return shape


def step(b: Builder, pick: random.Random, x: Value) -> Value:
    dims = list(x.type.dims)
    kind = pick.choice(("permute", "permute", "reshape", "reshape", "relu", "scale", "pad", "norm"))
    if kind == "permute":
        return b.aten("aten.permute.default", x, pick.sample(range(len(dims)), len(dims)))
    if kind == "reshape":
        shape = regrouped(pick, dims) if pick.random() < 0.8 else factors(pick, prod(dims))
        return b.aten("aten.reshape.default", x, shape) if len(shape) <= 6 else x
    if kind == "relu":
        return b.aten("aten.relu.default", x)
    if kind == "scale" and dims:
        part = [n if pick.random() < 0.5 else 1 for n in dims][pick.randrange(len(dims)) :]
        c = np.arange(prod(part), dtype=np.float32).reshape(part) - 2
        return b.aten("aten.mul.Tensor", x, b.constant(c, "scale"))
    if kind == "pad" and dims and x.type.size < 400:
        return b.aten("aten.pad.default", x, [pick.randint(0, 1) for _ in range(2)])
    if kind == "norm" and len(dims) > 1:
        stats = [b.constant(np.linspace(0.5, 2.0, dims[1], dtype=np.float32), f"s{i}")
                 for i in range(4)]  # fmt: skip
        return b.aten("aten.batch_norm.default", x, *stats, False, 0.1, 1e-5, False)
    return x


def random_graph(seed: int) -> Graph:
    pick = random.Random(seed)
    b = Builder(lowerings(), {})
    x = Value("x", TensorType(tuple(pick.choice(EXTENTS) for _ in range(pick.randint(1, 4)))))
    y = x
    for i in range(pick.randint(2, 9)):
        b.begin(f"call{i}", Origin())
        y = step(b, pick, y)
    graph = Graph("g", (x,), (y,), ("y",), tuple(b.nodes), b.constants)
    verify(graph)
    return graph


@pytest.mark.parametrize("start", range(0, 600, 100))
def test_values_stay(start: int) -> None:
    for seed in range(start, start + 100):
        graph = random_graph(seed)
        x = np.random.default_rng(seed).uniform(-1, 1, graph.inputs[0].type.dims)
        (want,) = outputs(graph, [x])
        for run in (sink_permutes, merge_permutes, drop_idle_permutes):
            graph = run(graph)
            verify(graph)
            (y,) = outputs(graph, [x])
            np.testing.assert_array_equal(y, want, err_msg=f"{run.__name__}, seed {seed}")


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        ((2, 3), (2, 3), [((0,), (0,)), ((1,), (1,))]),
        ((2, 3), (6,), [((0, 1), (0,))]),
        ((1, 3, 4), (1, 3, 1, 4), [((0,), (0,)), ((1,), (1,)), ((), (2,)), ((2,), (3,))]),
        ((4, 6), (3, 8), [((0, 1), (0, 1))]),
        ((2, 6, 5), (4, 3, 5), [((0, 1), (0, 1)), ((2,), (2,))]),
        ((), (1,), [((), (0,))]),
    ],
)
def test_groups_are_the_smallest(
    before: tuple[int, ...], after: tuple[int, ...], groups: list[tuple[tuple[int, ...], ...]]
) -> None:
    assert groups_of(before, after) == [Group(*g) for g in groups]


class Residual1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.body, self.out = nn.Conv1d(8, 8, 3, padding=1), nn.Conv1d(8, 4, 5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.body(x)).relu()
        return self.out(nn.functional.pad(x, (2, 1))).clamp(0, 6).mean(-1)


class Patches(nn.Module):
    """As a vision transformer starts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        return x + self.fc(self.norm(x))


def steps_of(model: nn.Module, *shape: int) -> list[str]:
    """Names of the operators that run, in order."""
    torch.manual_seed(0)
    bundle = emx.export(model.eval(), (torch.randn(shape),), name="net")
    graph = passes.run(load(bundle), check=[x[0] for x in bundle.vectors.inputs.values()])
    return [n.op.name for n in graph.nodes if n.op.name != "reshape"]


def test_a_1d_network_fuses_as_a_2d_one() -> None:
    assert steps_of(Residual1d(), 1, 3, 16) == ["conv2d", "conv2d", "conv2d", "reduce"]
    assert steps_of(Residual1d(), 2, 3, 16) == ["conv2d", "conv2d", "conv2d", "reduce"]


def test_a_decoder_stays_channels_last() -> None:
    decoder = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6),
        nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(6, 6, 1), nn.Upsample(size=(9, 13),
        mode="bilinear"), nn.Conv2d(6, 1, 3),
    )  # fmt: skip
    assert steps_of(decoder, 1, 3, 10, 10) == [
        "conv2d", "pool2d", "conv3d", "expand", "conv2d", "resample", "resample", "conv2d",
    ]  # fmt: skip


def test_a_3d_network_stays_channels_last() -> None:
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2),
        nn.ConvTranspose3d(4, 2, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool3d((3, None, None)),
        nn.Conv3d(2, 1, 1),
    )  # fmt: skip
    assert steps_of(net, 1, 1, 4, 6, 6) == [
        "conv3d", "pool2d", "pool2d", "conv3d", "adaptive_pool", "conv3d",
    ]  # fmt: skip


def test_a_shuffle_is_one_movement() -> None:
    shuffles = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ChannelShuffle(3), nn.Conv2d(12, 12, 1))
    assert steps_of(shuffles, 1, 3, 6, 6) == ["conv2d", "permute", "conv2d", "permute"]
    assert steps_of(nn.Sequential(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2)), 1, 3, 6, 6) == [
        "conv2d", "permute",
    ]  # fmt: skip
    assert steps_of(nn.PixelUnshuffle(2), 1, 3, 6, 6) == ["permute"]


def test_patches_need_no_permute() -> None:
    assert steps_of(Patches(), 1, 3, 16, 16) == ["conv2d", "layer_norm", "linear"]
