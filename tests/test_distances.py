# SPDX-License-Identifier: Apache-2.0
"""How far a quantised model's twin is from PyTorch: found as planted, and said by emx verify."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import emx
from emx.bundle import Bundle, Vectors
from emx.converted import Distances, LayerDistance, OutputDistance, distances
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.table_s8 import TableS8
from emx.quant import Quant
from emx.sample import X
from emx.twin import run_twin
from golden_models import golden_bundle
from sampled import DECOMPOSED, Calls, numbers
from test_twin import COUNT, INSIDE, INTEGER, QX, QY, N, chain, vectors


def test_an_output_that_is_one_step_off_twice() -> None:
    y = run_twin(INTEGER, vectors()).outputs["y"]
    eager = y.copy()
    eager[0, 0, 3] += 1
    eager[2, 1, 5] -= 1
    given = replace(vectors(), outputs={"y": QY.dequantise(eager)})
    (out,) = distances(INTEGER, given, {"y": y}).outputs
    assert out.steps is not None and abs(out.steps - 1) < 1e-4
    assert (out.name, out.rate, out.argmax, out.ok) == ("y", 2 / (COUNT * N), 1, True)


def test_steps_of_floats_are_those_of_the_integers_they_were_made_of() -> None:
    y = run_twin(INSIDE, vectors()).outputs["y"]
    given = replace(vectors(), outputs={"y": y + np.float32(3 * QY.scale)})
    (out,) = distances(INSIDE, given, {"y": y}).outputs
    assert out.steps is not None and abs(out.steps - 3) < 1e-4 and out.rate == 1
    softmax = chain("softmax", Quantize(QX), Dequantize(QX))
    plain = replace(softmax, outputs=softmax.inputs)
    assert distances(plain, given, {"y": y}).outputs[0].steps is None


@pytest.mark.parametrize(
    ("steps", "sqnr_db", "ok"),
    [(1.0, -3, True), (2.0, 19.9, False), (2.0, 20, True), (None, 19, False), (None, 21, True)],
)
def test_the_bound_of_an_output(steps: float | None, sqnr_db: float, ok: bool) -> None:
    assert OutputDistance("y", steps, 0.5, sqnr_db, 0.5).ok == ok


def test_the_largest_element() -> None:
    """Where PyTorch has several that are equally large, any of them will do."""
    y = np.array([[3, 1, 2], [1, 5, 4], [7, 2, 6]], np.float32)
    eager = np.array([[3, 1, 3], [1, 4, 5], [6, 2, 6]], np.float32)
    graph = chain("any", Quantize(QX))
    given = Vectors(vectors().inputs, {"y": eager})
    assert distances(graph, given, {"y": y}).outputs[0].argmax == 2 / 3


def test_layers_are_compared_from_inputs_that_are_pytorchs() -> None:
    """The first table is a step off at one element; the second, from there, is right."""
    graph = chain("two", TableS8(QX, QY), TableS8(QX, QY), quants=(QX, QY))
    x = vectors()
    first, table = run_twin(graph, x).layers["table_s8_0"].copy(), graph.constants["table"]
    steep = table[first.astype(int) + 129] != table[first.astype(int) + 128]
    first[tuple(np.argwhere(steep)[0])] += 1
    second = table[first.astype(int) + 128]
    assert (second != run_twin(graph, x).layers["table_s8_1"]).any()
    layers = {"table_s8_0": first, "table_s8_1": second}
    found = distances(graph, replace(x, layers=layers), {"y": run_twin(graph, x).outputs["y"]})
    assert found.layers == (
        LayerDistance("table_s8_0", "", "net.py:1", 1, 1 / N),
        LayerDistance("table_s8_1", "", "net.py:2", 0, 0),
    )


def test_what_pytorch_has_as_uint8_is_128_less() -> None:
    x = replace(vectors(), layers={"table_s8_0": np.zeros((2, N // 2), np.uint8)})
    y = run_twin(INTEGER, x)
    (layer,) = distances(INTEGER, x, y.outputs).layers
    assert layer.steps == (y.layers["table_s8_0"].astype(int) + 128).max()


def between(call: str) -> Bundle:
    """Two quantised values with a call between them, along axis 1."""
    calls = Calls(np.random.default_rng(1))
    value = calls.argument(X(2, 6, low=-4.0, high=4.0), "x")
    for i, q in enumerate((Quant(0.05, 3), Quant(1 / 256, -128))):
        quantised = calls.add(f"q{i}", f"{DECOMPOSED}.quantize_per_tensor.default",
                              (value, *numbers(q)))  # fmt: skip
        value = calls.dequantised(quantised[0], q)
        if i == 0:
            (value,) = calls.add("call", f"aten.{call}", (value, 1))
    return calls.bundle("between", (value,))


def test_verify_says_both() -> None:
    """No operator of integers sums up."""
    report = emx.verify(between("cumsum.default"), layers=True)
    assert report.ok and report.distances and report.source == "the Python twin"
    text = str(report)
    assert "host agrees with the Python twin, but for 2 steps behind layers in float" in text
    assert "the Python twin is near PyTorch's quantised model" in text
    parsed = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(parsed) == ["ok", "target", "outputs", "layers", "pytorch"]
    assert list(parsed["pytorch"]) == ["ok", "outputs", "layers"]
    assert list(parsed["pytorch"]["outputs"][0]) == ["name", "steps", "rate", "sqnr_db", "argmax"]
    assert list(parsed["pytorch"]["layers"][0]) == ["name", "module", "source", "steps", "rate"]


def test_verify_says_that_every_bit_is_equal() -> None:
    report = emx.verify(golden_bundle("integers"), layers=True)
    assert report.ok and report.exact
    assert "host equals the Python twin on every bit" in str(report)
    assert len(report.layers) == 6 and all(n.max_abs == 0 for n in report.layers)


def test_verify_notices_that_pytorch_gave_something_else() -> None:
    bundle = between("softmax.int")
    outputs = {k: 1 - y for k, y in bundle.vectors.outputs.items()}
    report = emx.verify(replace(bundle, vectors=replace(bundle.vectors, outputs=outputs)))
    assert not report.ok and all(o.ok for o in report.outputs)
    assert "the Python twin is FAR from PyTorch's quantised model" in str(report)


def test_a_model_that_is_not_quantised_has_no_distances() -> None:
    assert Distances((), ()).ok
    calls = Calls(np.random.default_rng(1))
    x = calls.argument(X(2, 6), "x")
    report = emx.verify(calls.bundle("plain", calls.add("y", "aten.relu.default", (x,))))
    assert report.ok and report.distances is None and report.source == "PyTorch"
