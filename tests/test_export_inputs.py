# SPDX-License-Identifier: Apache-2.0
"""What a model is exported and tested with: shapes, sample inputs, files, generated inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import emx
from emx.exporter.inputs import generate
from emx.ir import DType, TensorType
from export_models import IMAGE, Calls, Net, X, refusal


def test_inputs_that_emx_cannot_hold() -> None:
    model = Calls(lambda s, x: x * 2).eval()
    assert "the input x: data type float16" in refusal(model, (X.half(),)).head.what
    assert "the model has no input tensor" in refusal(model, (3,)).head.what
    assert "needs example inputs" in refusal(model).head.what
    assert "do not fit forward()" in refusal(model, (X, X)).head.what
    assert "expected a torch.nn.Module, got int" in refusal(3).head.what


def test_inputs_are_pinned_by_name() -> None:
    model = Calls(lambda s, x: x * 2).eval()
    bundle = emx.export(model, inputs=["x=f32[3x5]"])
    assert [str(t) for _, t in bundle.inputs] == ["f32[3x5]"]
    assert "forward() has no argument y" in refusal(model, inputs=["y=f32[3]"]).head.what
    for spec in ("x:f32[3]", "x=f33[3]", "x=f32[3", "=f32[3]", "x", "x=f32[-3]"):
        assert f"cannot read the input {spec!r}" in refusal(model, inputs=[spec]).head.what


def test_made_up_inputs_are_no_sample_inputs() -> None:
    model = Calls(lambda s, x: x * 2).eval()
    made = emx.export(model, inputs=["x=f32[2x4]"], vectors=2).vectors.inputs["x"]
    np.testing.assert_array_equal(made, generate(0, TensorType((2, 4)), 2, 0))


def test_dynamic_extents_are_refused_or_pinned(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(
        Calls(lambda s, x: torch.cat([s.fc(x), x]).reshape(-1)).eval(),
        (X,), dynamic_shapes={"x": {0: batch}},
    )  # fmt: skip
    torch.export.save(program, tmp_path / "net.pt2")
    for model in (program, tmp_path / "net.pt2"):
        error = refusal(model)
        assert error.head.what == "the input x: its shape is not fixed"
        assert "--inputs x=f32[2x4]" in (error.head.hint or "")
        bundle = emx.export(model, inputs=["x=f32[5x4]"])
        assert str(bundle.inputs[0][1]) == "f32[5x4]"
        assert bundle.nodes[0].origin.module == "fc"
        assert bundle.nodes[0].origin.source.startswith("export_models.py:")
    assert "with the shapes of --inputs" in refusal(program, inputs=["x=f32[5x7]"]).head.what


def test_pins_that_contradict_a_fixed_archive() -> None:
    program = torch.export.export(Net().eval(), IMAGE)
    error = refusal(program, inputs=["image=f32[1x2x6x6]"])
    assert error.head.what == "the input image is f32[2x2x6x6], not f32[1x2x6x6]"
    error = refusal(program, inputs=["x=f32[1]"])
    assert error.head.what == "the model has no input x"
    assert error.head.hint == "its inputs are image"


def test_generated_inputs_follow_from_the_seed_alone() -> None:
    f32 = TensorType((2, 3))
    values = generate(0, f32, 2, seed=7)
    word = np.random.Philox(key=np.array([7, 0], dtype=np.uint64)).random_raw(1)[0]
    assert values[0, 0, 0] == np.float32((int(word) >> 40) * 2.0**-23 - 1.0)
    np.testing.assert_array_equal(values[:1], generate(0, f32, 1, seed=7))  # a prefix
    assert not np.array_equal(values, generate(1, f32, 2, seed=7))
    assert not np.array_equal(values, generate(0, f32, 2, seed=8))
    many = generate(0, TensorType((1000,)), 1, seed=0)
    assert -1 <= many.min() < -0.99 and 0.99 < many.max() < 1
    integers = generate(0, TensorType((1000,), DType.S64), 1, seed=0)
    assert sorted(set(integers.ravel().tolist())) == list(range(10))
    assert set(generate(0, TensorType((99,), DType.BOOL), 1, 0).ravel().tolist()) == {False, True}


def test_sample_inputs_come_first_unless_they_are_one_value(tmp_path: Path) -> None:
    for value, own in ((X, True), (torch.zeros(2, 4), False)):
        program = torch.export.export(Calls(lambda s, x: x * 2).eval(), (value,))
        torch.export.save(program, tmp_path / "net.pt2")
        first = emx.export(tmp_path / "net.pt2", vectors=2).vectors.inputs["x"][0]
        expected = X if own else generate(0, TensorType((2, 4)), 1, 0)[0]
        np.testing.assert_array_equal(first, expected)


def test_example_files(tmp_path: Path) -> None:
    model = Calls(lambda s, x: x * 2).eval()
    batch = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    np.savez(tmp_path / "a.npz", x=batch)
    np.save(tmp_path / "a.npy", batch[0])
    torch.save({"x": torch.tensor(batch)}, tmp_path / "a.pt")
    for name, own in (("a.npz", 3), ("a.npy", 1), ("a.pt", 3)):
        bundle = emx.export(model, (X,), example_file=tmp_path / name, vectors=4)
        inputs = bundle.vectors.inputs["x"]
        np.testing.assert_array_equal(inputs[:own], batch[:own])
        generated = generate(0, TensorType((2, 4)), 4 - own, 0)
        np.testing.assert_array_equal(inputs[own:], generated)
    bundle = emx.export(model, (X,), example_file=tmp_path / "a.npz", vectors=2)
    np.testing.assert_array_equal(bundle.vectors.inputs["x"], batch[:2])


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"y": np.zeros((2, 4), np.float32)}, "has no array for the input x; it has y"),
        ({"x": np.zeros((2, 5), np.float32)}, "x has shape [2x5], the model takes f32[2x4]"),
        ({"x": np.zeros((0, 2, 4), np.float32)}, "there is nothing in the example input x"),
        ({"x": np.zeros((2, 4))}, "x has type float64, the model takes f32[2x4]"),
        ({"x": np.array([None])}, "cannot read the example inputs a.npz"),
    ],
)
def test_example_files_that_do_not_fit(arrays: Any, what: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    model = Calls(lambda s, x: x * 2).eval()
    error = refusal(model, (X,), example_file=tmp_path / "a.npz")
    assert what in error.head.what
    assert error.head.at == str(tmp_path / "a.npz")


def test_example_files_that_are_none(tmp_path: Path) -> None:
    model = Calls(lambda s, x: x * 2).eval()
    assert "there is no file" in refusal(model, (X,), example_file=tmp_path / "a.npz").head.what
    for name in ("a.npz", "a.npy", "a.pt"):
        (tmp_path / name).write_bytes(b"nonsense")
        error = refusal(model, (X,), example_file=tmp_path / name)
        assert f"cannot read the example inputs {name}" in error.head.what
    (tmp_path / "a.txt").write_text("1 2 3")
    assert "in a .txt file" in refusal(model, (X,), example_file=tmp_path / "a.txt").head.what
    assert "0 test vectors" in refusal(model, (X,), vectors=0).head.what


def test_a_model_that_fails_on_generated_inputs_names_the_option() -> None:
    error = refusal(nn.Embedding(5, 3), inputs=["input=s64[2]"], vectors=8)
    assert "the model fails on its test inputs: IndexError" in error.head.what
    assert "--example-inputs" in (error.head.hint or "")


def test_integers_are_those_of_the_example(tmp_path: Path) -> None:
    """A token, an index, a mask: only the user knows which values are valid."""
    ids = torch.tensor([[7, 7, 90, 4]])
    model = Calls(lambda s, x: s.scale[x % 4]).eval()
    program = torch.export.export(model, (ids,))
    torch.export.save(program, tmp_path / "net.pt2")
    for bundle in (emx.export(model, (ids,), vectors=9), emx.export(program, vectors=9),
                   emx.export(tmp_path / "net.pt2", vectors=9)):  # fmt: skip
        values = bundle.vectors.inputs["x"]
        np.testing.assert_array_equal(values[0], ids)
        assert set(values[1:].ravel().tolist()) == {7, 90, 4}
        assert len({row.tobytes() for row in values}) == 9
    np.savez(tmp_path / "a.npz", x=np.array([[[1, 2, 1, 2]], [[3, 3, 3, 3]]]))
    values = emx.export(model, (ids,), example_file=tmp_path / "a.npz").vectors.inputs["x"]
    assert set(values[2:].ravel().tolist()) <= {1, 2, 3} and len(values) == 4


def test_a_mask_of_ones_stays_one() -> None:
    model = Calls(lambda s, x: x[0] * x[1]).eval()
    for mask in (torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 4, dtype=torch.int32)):
        vectors = emx.export(model, ((X, mask),)).vectors
        assert vectors.inputs["x_1"].all() and vectors.inputs["x_1"].shape == (4, 2, 4)
        np.testing.assert_array_equal(vectors.inputs["x_0"][0], X)
