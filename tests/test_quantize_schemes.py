# SPDX-License-Identifier: Apache-2.0
"""A float model quantised on export, for each scheme: as near to float as its bits allow, the C as
its twin, and what has no integer form says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import emx
from emx import passes
from emx.api import verify
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.interpret import outputs
from emx.ir import Graph
from emx.load import load
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.options import SCHEMES, Options
from emx.quantize import EmxQuantizer
from emx.twin import dequantised, quantised

# dB that each scheme reaches on the network below, or a few more.
QUALITY = {"int8": 33, "int16x8": 43, "int4": 18, "weights-int8": 43, "weights-int4": 18}


class Net(nn.Module):
    """A separable block with a residual, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.pointwise(torch.relu(self.depthwise(x))) + x)
        return self.head(torch.flatten(self.pool(x), 1))


def net() -> nn.Module:
    torch.manual_seed(3)
    model = Net()
    with torch.no_grad():
        model.train()(samples(64))
    return model.eval()


def samples(count: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def bundle_of(scheme: str) -> Bundle:
    data: Any = {} if scheme.startswith("weights") else {"calibration": samples(32).numpy()}
    return emx.export(net(), samples(1), quantize=scheme, **data)


def optimised(bundle: Bundle) -> Graph:
    return passes.run(load(bundle), Options())


def quality(graph: Graph, model: nn.Module) -> float:
    """dB of signal over noise, on other samples."""
    data = samples(8, seed=6)
    with torch.no_grad():
        want = model(data).numpy()
    (v,), (y,) = graph.inputs, graph.outputs
    got = [outputs(graph, [quantised(graph, v, x[None])])[0] for x in data.numpy()]
    noise = want - np.concatenate([dequantised(graph.quants.get(y.name), g) for g in got])
    return float(10 * np.log10((want**2).sum() / (noise**2).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_quality(scheme: str) -> None:
    graph = optimised(bundle_of(scheme))
    assert QUALITY[scheme] <= quality(graph, net()) <= QUALITY[scheme] + 8
    kinds = [isinstance(n.op, Conv2dMixed) for n in graph.nodes if n.op.macs(n)]
    assert len(kinds) == 4 and all(kinds) == (scheme != "int8")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_c_is_the_twin(scheme: str) -> None:
    report = verify(bundle_of(scheme), target="host", layers=True)
    assert report.ok, str(report)


BETWEEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max pool": lambda y: F.max_pool2d(y, 2),
    "max pool in one dimension": lambda y: F.max_pool1d(y.flatten(2), 3).unsqueeze(3),
    "amax": lambda y: y.amax(3, keepdim=True),
    "sum": lambda y: torch.relu(y + y.flip(3) * 0.75),
    "leaky relu": lambda y: F.leaky_relu(y, 0.3),
}


class Between(nn.Module):
    """Two convolutions, and something between them that stays in float with int16x8."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1)
        self.between = BETWEEN[name]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stays_in_float_between_int16(name: str) -> None:
    model = Between(name).eval()
    data = samples(32).numpy()
    bundle = emx.export(model, samples(1), quantize="int16x8", calibration=data)
    report = verify(bundle, target="host")
    assert report.ok, str(report)
    assert quality(optimised(bundle), model) > 43


@pytest.mark.slow
def test_what_has_no_int16_form() -> None:
    reasons = {f.reason for f in optimised(bundle_of("int16x8")).float_layers}
    assert reasons == {
        "emx has no pointwise whose result is s16", "emx has no pool2d whose result is s16"
    }  # fmt: skip


@pytest.mark.slow
def test_groups_are_nearer() -> None:
    """A scale for each 16 inputs of the linear layer, as a quantizer by hand takes it; 16 of its
    weights are much larger than the others."""
    results = {}
    model = net()
    with torch.no_grad():
        model.head.weight[:, :16] *= 20
    for group in (0, 16):
        program = torch.export.export(model, (samples(1),)).module()
        prepared = prepare_pt2e(program, EmxQuantizer("int4", group=group))
        for x in samples(16):
            prepared(x[None])
        exported = torch.export.export(convert_pt2e(prepared), (samples(1),))
        bundle = emx.export(exported)
        assert verify(bundle, target="host").ok
        graph = optimised(bundle)
        results[group] = quality(graph, model)
        last = [n for n in graph.nodes if n.op.macs(n)][-1]
        assert graph.constants[last.inputs[3].name].shape == (256 // group if group else 1, 10)
    assert results[16] > results[0] + 1


def test_groups_need_weights_of_four_bits() -> None:
    with pytest.raises(EmxError, match="groups are for weights of 4 bits"):
        EmxQuantizer("int8", group=32)


def test_weights_alone_need_no_calibration() -> None:
    with pytest.raises(EmxError, match="quantising needs calibration data"):
        emx.export(net(), samples(1), quantize="int4")
