# SPDX-License-Identifier: Apache-2.0
"""The networks as several quantizers convert them: integer inside, layer by layer PyTorch's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from converted import MODELS, NETS, archive
from emx import passes
from emx.api import export
from emx.bundle import Bundle
from emx.interpret import outputs
from emx.ir import Array
from emx.load import load
from emx.options import Options
from emx.twin import quantised
from many import SANITIZE, run_together
from per_layer import compare_layers

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")

# Layers that the quantizer left in float between others: a mean of sums that it did not quantise.
FLOATS = {"emx": 0, "xnnpack": 0, "qat": 0, "x86": 2, "arm": 2}
# Of results that are not PyTorch's but the neighbours: of a bias of floats, 2^-10 of a step may be
# missing, and PyTorch rounds in float32.
RATE = {"emx": 2e-5, "xnnpack": 5e-4, "qat": 5e-4, "x86": 5e-4, "arm": 5e-4}


@cache
def converted(net: str, form: str) -> Bundle:
    if form != "emx":
        return export(archive(net, form))
    samples = MODELS / f"{net}_calibration.npz"
    return export(MODELS / f"{net}.pt2", quantize="int8", calibration=samples)


def genuine(net: str, count: int) -> list[Array]:
    return list(np.load(MODELS / f"{net}_calibration.npz")["x"][:count].astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("form", FLOATS)
@pytest.mark.parametrize("net", NETS)
def test_layers_are_those_of_pytorch(net: str, form: str) -> None:
    bundle = converted(net, form)
    ((name, t),) = bundle.inputs
    inputs = [{name: x.reshape(t.dims)} for x in genuine(net, 8)]
    layers = compare_layers(bundle, inputs)
    assert max(layer.most for layer in layers) <= 1
    for layer in layers:
        allowed = RATE[form] * layer.size
        assert layer.off <= allowed + 3 * allowed**0.5, layer


@pytest.mark.slow
@pytest.mark.parametrize("form", FLOATS)
@pytest.mark.parametrize("net", NETS)
def test_no_floats_are_left_inside(net: str, form: str) -> None:
    graph = passes.run(load(converted(net, form)), Options())
    inside = [f.reason for f in graph.float_layers if f.inside]
    assert len(inside) <= FLOATS[form], inside
    assert graph.quants[graph.inputs[0].name].dtype is graph.inputs[0].type.dtype


@pytest.mark.slow
@pytest.mark.parametrize("form", FLOATS)
@pytest.mark.parametrize("net", ["kws", "ic", "vww"])
def test_classes_are_those_of_pytorch(net: str, form: str) -> None:
    bundle = converted(net, form)
    graph = passes.run(load(bundle), Options())
    (v,), (want,) = graph.inputs, bundle.vectors.outputs.values()
    for x, y in zip(bundle.vectors.inputs[v.name], want, strict=True):
        (got,) = outputs(graph, [quantised(graph, v, x)])
        assert got.argmax() == y.argmax()


@pytest.mark.slow
@pytest.mark.parametrize(("io", "nets"), [("int8", NETS), ("float", ("kws",))])
def test_the_c_of_all_forms(tmp_path: Path, io: str, nets: tuple[str, ...]) -> None:
    bundles = [
        replace(converted(net, form).with_vectors(2), name=f"{net}_{form}")
        for net in nets
        for form in FLOATS
        if form != "emx"  # tested by itself, on boards
    ]
    run_together(bundles, tmp_path, "host", SANITIZE, Options(test=True, taps=True, io=io))
