# SPDX-License-Identifier: Apache-2.0
"""The networks of zoo.py quantised after training: near the float ones, and integer inside."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import emx
import zoo
from emx import passes
from emx.compare import decibel
from emx.exporter import outputs_of
from emx.ir import Array
from emx.load import load

pytest.importorskip("torchao")
pytestmark = pytest.mark.slow

# Network -> decibels that are left of its first output, and the layers that stay in float.
NETWORKS = {
    zoo.unet: (40, ()),
    zoo.mobilenet_v2: (40, ()),
    zoo.mobilenet_v3: (40, ()),
    zoo.densenet: (40, ()),
    zoo.tcn: (30, ()),
    zoo.encoder: (28, ()),
    zoo.mixer: (30, ()),
    zoo.pointnet: (30, ()),
    zoo.vae_decoder: (22, ()),
    zoo.keyword_rnn: (40, ()),
    zoo.segmenter: (35, ("group_norm",)),
}


def samples(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, Array]:
    """Sixteen for each input, of the spread that its example has."""
    names = inspect.signature(network.forward).parameters
    words = np.random.Generator(np.random.Philox(3))
    found = {}
    for name, x in zip(names, inputs, strict=False):
        a = x.numpy()
        noise = words.standard_normal((15, *a.shape)).astype(np.float32)
        found[name] = np.concatenate([a[None], noise * a.std() + a.mean()])
    return found


@pytest.mark.parametrize("factory", NETWORKS, ids=lambda f: f.__name__)
def test_network(factory: zoo.Factory) -> None:
    least, floats = NETWORKS[factory]
    network, inputs = factory()
    given = samples(network, inputs)
    some = {name: a[:4] for name, a in given.items()}
    both = outputs_of(network, some, inputs, quantize="int8", calibration=given)
    assert both.floats is not None and both.quantised is not None
    signal, error = (both.floats**2).sum(), ((both.floats - both.quantised) ** 2).sum()
    assert decibel(float(signal), float(error)) > least
    bundle = emx.export(network, inputs, quantize="int8", calibration=given, vectors=1)
    graph = passes.run(load(bundle))
    inside = [f for f in graph.float_layers if f.inside]
    assert all(any(word in f.reason for word in floats) for f in inside), inside
