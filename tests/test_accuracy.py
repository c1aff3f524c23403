# SPDX-License-Identifier: Apache-2.0
"""Accuracy on a data set: read, scored, run in C, and the noise of layers found where it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emx
from emx import accuracy
from emx.accuracy import AccuracyReport, DataSet, InPyTorch, Score, in_parts, read_dataset, score
from emx.build import TooLarge, find_machine
from emx.ir import Array, Origin, TensorType
from emx.noise import LayerNoise, Source, layer_noise, sources
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.softmax import Softmax
from emx.ops.table_s8 import TableS8
from emx.twin import run_twin
from test_distances import between
from test_twin import COUNT, QX, QY, N, chain, sigmoid_by_hand, vectors

SIGNATURE = (("image", TensorType((1, 3))),)
X = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def test_a_single_input_may_be_called_x(tmp_path: Path) -> None:
    for name in ("x", "image"):
        data = read_dataset(write(tmp_path, **{name: X}, label=np.arange(4) % 3), SIGNATURE)
        np.testing.assert_array_equal(data.inputs["image"], X[:, None])
        assert data.label is not None and data.y is None and data.count == 4
    some = data.first(3)
    assert some.count == 3 and some.label is not None and len(some.label) == 3


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"x": X}, "set.npz does not say what is right"),
        ({"x": X, "label": np.zeros(3, int)}, "set.npz has 4 samples, but 3 of label"),
        ({"x": X, "y": np.zeros((5, 3))}, "set.npz has 4 samples, but 5 of y"),
        ({"x": X, "label": np.zeros(4)}, "label of set.npz is float64[4]"),
        ({"x": X, "label": np.zeros((4, 3), int)}, "label of set.npz is int64[4, 3]"),
        ({"z": X, "label": np.zeros(4, int)}, "set.npz has no array for the input image"),
        ({"x": X[:, :2], "label": np.zeros(4, int)}, "the data set's image has shape [4x2]"),
        ({"x": X[:0], "label": np.zeros(0, int)}, "there is nothing in the data set's image"),
        ({"x": X * np.nan, "label": np.zeros(4, int)}, "image of set.npz holds NaN"),
        ({"x": X, "y": X + np.inf}, "y of set.npz holds NaN or infinity"),
    ],
)
def test_a_data_set_that_cannot_be_used(tmp_path: Path, arrays: Any, what: str) -> None:
    with pytest.raises(emx.EmxError) as caught:
        read_dataset(write(tmp_path, **arrays), SIGNATURE)
    assert str(caught.value).startswith(what)


def test_a_data_set_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(emx.EmxError, match=r"there is no file .*none\.npz"):
        read_dataset(tmp_path / "none.npz", SIGNATURE)
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(emx.EmxError, match=r"cannot read the data set bad\.npz: it is no \.npz"):
        read_dataset(tmp_path / "bad.npz", SIGNATURE)


def test_tensors_of_torch_save(tmp_path: Path) -> None:
    torch.save({"x": torch.from_numpy(X), "label": torch.arange(4) % 3}, tmp_path / "set.pt")
    data = read_dataset(tmp_path / "set.pt", SIGNATURE)
    np.testing.assert_array_equal(data.inputs["image"], X[:, None])
    np.testing.assert_array_equal(data.label, [0, 1, 2, 0])


def test_an_input_may_be_called_y(tmp_path: Path) -> None:
    signature = (*SIGNATURE, ("y", TensorType((1, 3))))
    data = read_dataset(write(tmp_path, image=X, y=2 * X, label=np.arange(4) % 3), signature)
    np.testing.assert_array_equal(data.inputs["y"], 2 * X[:, None])
    assert data.y is None and data.label is not None


def test_how_many_samples_run_on_a_board() -> None:
    unread: Any = None
    for count in (0, -1):
        with pytest.raises(emx.EmxError, match=f"{count} samples for mps2-an386"):
            emx.evaluate(unread, labelled(), target="mps2-an386", samples=count)


def labelled(*label: int) -> DataSet:
    return DataSet({"image": X}, np.array(label), None)


def test_scores() -> None:
    outputs = np.array([[[1, 2, 0]], [[5, 1, 1]], [[0, 1, 2]], [[3, 4, 5]]], np.float32)
    assert score("c", outputs, labelled(1, 0, 1, 2)) == Score("c", 4, accuracy=0.75)
    assert score("c", outputs[:2], labelled(1, 0, 1, 2)) == Score("c", 2, accuracy=1)
    y = outputs.copy()
    y[0, 0, 0] += 2
    found = score("c", outputs, DataSet({"image": X}, None, y))
    assert found.mse == pytest.approx(4 / 12) and found.accuracy is None
    assert found.sqnr_db == pytest.approx(10 * np.log10((y**2).sum() / 4))


def test_scores_that_mean_nothing() -> None:
    outputs = np.zeros((4, 1, 3), np.float32)
    with pytest.raises(emx.EmxError, match="labels go from 0 to 3, but the output has 3 elements"):
        score("c", outputs, labelled(1, 0, 1, 3))
    with pytest.raises(emx.EmxError, match="y of the data set has 2 elements a sample, the out"):
        score("c", outputs, DataSet({"image": X}, None, np.zeros((4, 2))))


def test_a_board_takes_as_many_samples_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def run(machine: Any, name: str, emit: Any, inputs: Mapping[str, Array]) -> Array:
        sizes.append(len(inputs["x"]))
        if sizes[-1] > most:
            raise TooLarge("too large")
        return inputs["x"] * 2

    monkeypatch.setattr(accuracy, "_run", run)
    x, most = np.arange(21), 3
    y = in_parts(find_machine("host"), "net", lambda *_: pytest.fail(), {"x": x})
    np.testing.assert_array_equal(y, 2 * x)
    assert sizes == [21, 6, 2, *[2] * 9, 1]
    most = 0
    with pytest.raises(TooLarge):
        in_parts(find_machine("host"), "net", lambda *_: pytest.fail(), {"x": x})


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
def test_c_is_scored_like_its_twin(tmp_path: Path, target: str) -> None:
    bundle = between("softmax.int")
    random = np.random.default_rng(2)
    x = random.normal(0, 2, (9, *bundle.inputs[0][1].dims)).astype(np.float32)
    z = np.clip(np.rint(x / np.float32(0.05)), -131, 124) * 0.05
    y = np.exp(z - z.max(-1, keepdims=True))
    y /= y.sum(-1, keepdims=True)
    path = write(tmp_path, x=x, label=y.reshape(9, -1).argmax(1))
    report = emx.evaluate(bundle, path, target=target, samples=5)
    assert [(s.who, s.samples, s.accuracy) for s in report.scores] == [
        ("C on host", 9, 1),
        ("C on mps2-an386", 5, 1),
    ][: 1 + (target != "host")]
    (best, *_) = emx.evaluate(bundle, write(tmp_path, x=x, y=y), target=target).scores
    assert best.sqnr_db is not None and 40 < best.sqnr_db < 70


def test_int8_outputs_are_scored_as_what_they_stand_for(tmp_path: Path) -> None:
    bundle = between("softmax.int")
    floats = emx.evaluate(bundle, DataSet({"x": np.zeros((2, 2, 6), np.float32)}, None,
                                          np.full((2, 2, 6), 1 / 6)))  # fmt: skip
    (only,) = floats.scores
    assert only.mse is not None and only.mse < (0.5 / 256) ** 2


# ---- Noise ----

TWO = chain("two", TableS8(QX, QY), TableS8(QX, QY), quants=(QX, QY))
MADE = {"table_s8_0": Source(QY, "one"), "table_s8_1": Source(QY, "body.two")}


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))))


def floats() -> list[dict[str, Array]]:
    """A float model whose layers are what the graph's two tables stand for, but for 0.25 more in
    the second one. The tables read the integers of QY as those of QX."""
    layers = []
    for x in vectors().inputs["x"]:
        first = sigmoid(QX.dequantise(QX.quantise(x)))
        second = sigmoid(QX.dequantise(QY.quantise(first))) + 0.25
        layers.append({"table_s8_0": first, "table_s8_1": second})
    return layers


def test_noise_of_layers() -> None:
    inputs = [{"x": x} for x in vectors().inputs["x"]]
    second, first = layer_noise(TWO, MADE, inputs, floats())
    assert (first.name, first.module, first.source) == ("table_s8_0", "one", "net.py:1")
    assert (second.name, second.module, second.source) == ("table_s8_1", "body.two", "net.py:2")
    exact = np.concatenate([f["table_s8_0"] for f in floats()])
    error = QY.dequantise(sigmoid_by_hand(QX.quantise(vectors().inputs["x"]))) - exact.reshape(
        COUNT, 2, N // 2
    )
    assert first.sqnr_db == pytest.approx(10 * np.log10((exact**2).sum() / (error**2).sum()))
    assert first.own_sqnr_db == first.sqnr_db
    power = sum((f["table_s8_1"] ** 2).sum() for f in floats())
    assert second.sqnr_db == pytest.approx(10 * np.log10(power / (COUNT * N / 16)), abs=0.5)


def test_the_module_of_a_layer_is_that_before_a_function() -> None:
    graph = chain("any", Quantize(QX), Dequantize(QX), Softmax(1), Softmax(1), Quantize(QY))
    modules = ("", "", "body.fc", "", "")
    nodes = [replace(n, origin=Origin(m)) for n, m in zip(graph.nodes, modules, strict=True)]
    assert sources(graph.with_nodes(nodes)) == {
        "quantize_0": Source(QX, ""),
        "quantize_4": Source(QY, "body.fc"),
    }


def test_own_noise_leaves_out_that_of_the_layers_before() -> None:
    """The first layer is far off; the second is right for what the float model has there."""
    given = floats()
    for f in given:
        f["table_s8_0"] = f["table_s8_0"] * 0.5
        f["table_s8_1"] = sigmoid(QX.dequantise(QY.quantise(f["table_s8_0"])))
    inputs = [{"x": x} for x in vectors().inputs["x"]]
    found = {n.name: n for n in layer_noise(TWO, MADE, inputs, given)}
    assert found["table_s8_0"].sqnr_db == found["table_s8_0"].own_sqnr_db < 3
    assert found["table_s8_1"].own_sqnr_db > 30 > found["table_s8_1"].sqnr_db


def test_layers_that_the_float_model_does_not_have() -> None:
    inputs = [{"x": x} for x in vectors().inputs["x"]]
    (only,) = layer_noise(TWO, MADE, inputs, [{"table_s8_0": f["table_s8_0"]} for f in floats()])
    assert only.name == "table_s8_0"
    assert layer_noise(TWO, MADE, inputs, [{}] * COUNT) == ()
    assert layer_noise(TWO, {}, inputs, floats()) == ()


NOISE = (
    LayerNoise("linear", "head", "net.py:9", 11, 31),
    LayerNoise("relu", "body.conv1", "net.py:4", 12, 15),
)


def report(*accuracies: float) -> AccuracyReport:
    return AccuracyReport(tuple(Score(f"s{i}", 200, a) for i, a in enumerate(accuracies)), NOISE)


def test_advice_names_the_layer_that_makes_most_noise() -> None:
    advice = report(0.95, 0.93, 0.93).advice
    assert advice and advice.startswith(
        "relu adds most noise of its own (15.0 dB): keep body.conv1"
    )
    assert "--keep-float body.conv1" in advice and "--quantize int16x8" in advice
    assert advice in str(report(0.95, 0.93, 0.93))


def test_no_advice_where_nothing_is_lost() -> None:
    assert report(0.95, 0.947, 0.96).advice is None
    assert replace(report(0.95, 0.5), layers=()).advice is None
    near = tuple(Score(w, 9, mse=1.0, sqnr_db=db) for w, db in (("float", 60), ("int8", 31)))
    far = tuple(Score(w, 9, mse=1.0, sqnr_db=db) for w, db in (("float", 60), ("int8", 29)))
    assert AccuracyReport(near, NOISE).advice is None
    assert AccuracyReport(far, NOISE).advice
    few = Score("C on a board", 10, 0.3)
    assert replace(report(0.95, 0.947), scores=(*report(0.95, 0.947).scores, few)).advice is None


def test_report_as_text_and_json() -> None:
    text = str(report(0.95, 0.947)).splitlines()
    assert text[0].split() == ["accuracy", "samples"]
    assert text[1].split() == ["s0", "95.00", "%", "200"]
    assert text[4].split() == ["layer", "SQNR", "its", "own", "module", "source"]
    data = json.loads(json.dumps(report(0.95, 0.9).to_dict(), allow_nan=False))
    assert list(data) == ["scores", "layers", "advice"]
    assert data["scores"][0] == {"who": "s0", "samples": 200, "accuracy": 0.95}
    assert list(data["layers"][0]) == ["name", "module", "source", "sqnr_db", "own_sqnr_db"]


def test_pytorchs_scores_come_first() -> None:
    x, y = vectors().inputs["x"], run_twin(TWO, vectors()).outputs["y"]
    data = DataSet({"x": x}, None, QY.dequantise(y))
    known = InPyTorch(QY.dequantise(y) + 1, QY.dequantise(y), floats())
    found = accuracy.evaluate(TWO, MADE, data, lambda m, i: QY.dequantise(y), "host", None, known)
    assert [s.who for s in found.scores] == ["PyTorch, float", "PyTorch, quantised", "C on host"]
    assert found.scores[0].mse == pytest.approx(1) and found.scores[1].mse == 0
    assert len(found.layers) == 2
