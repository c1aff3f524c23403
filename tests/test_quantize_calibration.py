# SPDX-License-Identifier: Apache-2.0
"""Calibration: where samples come from, and what is wrong with them, with a model or a scale."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import converted
import emx
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.ir import Array
from quantised import Layers, quantised, samples

pytest.importorskip("torchao")

X = torch.zeros(1, 4, 8, 8)
GOOD = samples(X)


class Two(nn.Module):
    """Of two inputs, one of them integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 3)
        self.fc = nn.Linear(3, 3)

    def forward(self, tokens: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return self.fc(self.table(tokens)) * gain  # type: ignore[no-any-return]


TWO = (torch.zeros(1, 5, dtype=torch.int64), torch.zeros(1, 5, 3))


def net() -> nn.Module:
    return Layers(lambda m, x: m.conv(x)).eval()


def first_scale(bundle: Bundle) -> Any:
    return next(n for n in bundle.nodes if ".quantize_per_tensor." in n.target).args[1]


# ---- Where samples come from ----

SHAPES: dict[str, Callable[[Array], dict[str, Array]]] = {
    "named like the input": lambda a: {"x": a},
    "as a batch": lambda a: {"x": a[:, 0]},
    "the only array": lambda a: {"images": a[:, 0]},
    "with labels": lambda a: {"x": a[:, 0], "label": np.zeros(len(a))},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_npz(shape: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **SHAPES[shape](GOOD))
    bundle = emx.export(net(), (X,), quantize="int8", calibration=tmp_path / "c.npz")
    assert first_scale(bundle) == first_scale(quantised(net(), X))


@pytest.mark.parametrize("form", ["tensor", "dict", "tuple"])
def test_tensors_of_torch_save(form: str, tmp_path: Path) -> None:
    data = torch.from_numpy(GOOD[:, 0])
    torch.save({"tensor": data, "dict": {"x": data}, "tuple": (data,)}[form], tmp_path / "c.pt")
    bundle = emx.export(net(), (X,), quantize="int8", calibration=tmp_path / "c.pt")
    assert first_scale(bundle) == first_scale(quantised(net(), X))


SCRIPT = """
import numpy as np
import torch
from values import VALUES

def batches():
    for row in VALUES:
        yield torch.from_numpy(row[None])

def in_batches():
    return [(torch.from_numpy(VALUES[i : i + 8]),) for i in range(0, len(VALUES), 8)]

def by_name():
    yield from ({"x": row[None]} for row in VALUES)

def no_list():
    return 3

def nothing():
    return []

def two():
    return [(1, 2)]

def fails():
    yield torch.zeros(1, 4, 8, 8)
    raise ValueError("no more images")

def for_ever():
    while True:
        yield torch.ones(1, 4, 8, 8)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    np.save(tmp_path / "values.npy", GOOD[:, 0])
    (tmp_path / "data.py").write_text(SCRIPT)
    (tmp_path / "values.py").write_text(
        f"import numpy\nVALUES = numpy.load({str(tmp_path / 'values.npy')!r})\n"
    )
    return tmp_path / "data.py"


@pytest.mark.parametrize("function", ["batches", "in_batches", "by_name"])
def test_a_script(function: str, script: Path) -> None:
    before = set(sys.modules)
    bundle = emx.export(net(), (X,), quantize="int8", calibration=f"{script}:{function}")
    assert first_scale(bundle) == first_scale(quantised(net(), X))
    assert "values" not in set(sys.modules) - before


def test_a_script_that_never_ends(script: Path) -> None:
    bundle = emx.export(net(), (X,), quantize="int8", calibration=f"{script}:for_ever")
    assert first_scale(bundle) == pytest.approx(1 / 255)


def test_several_inputs() -> None:
    """Integers are indices: they stay what they are."""
    tokens = np.arange(40, dtype=np.int64).reshape(8, 1, 5) % 10
    given = {"tokens": tokens, "gain": np.ones((8, 1, 5, 3), np.float32)}
    bundle = emx.export(Two().eval(), TWO, quantize="int8", calibration=given)
    assert [str(t) for _, t in bundle.inputs] == ["s64[1x5]", "f32[1x5x3]"]
    np.testing.assert_array_equal(bundle.vectors.inputs["tokens"][0], tokens[0])


# ---- What is wrong ----


def page(model: Any = None, x: Any = (X,), **options: Any) -> str:
    settings = {"quantize": "int8", "calibration": GOOD, **options}
    with pytest.raises(EmxError) as caught:
        emx.export(net() if model is None else model, x, **settings)
    return str(caught.value)


def with_value(value: float) -> Array:
    bad = GOOD.copy()
    bad[5, 0, 1, 2, 3] = value
    return bad


SAMPLE_ERRORS: dict[str, tuple[Any, str, str]] = {
    "none": (None, "quantising needs calibration data", "--calibration FILE.npz"),
    "shape": (GOOD[:, :, :3], "calibration data of x has shape [24x1x3x8x8]", "give [1x4x8x8]"),
    "type": (GOOD.astype(np.float64), "has type float64, the model takes f32", "astype('float32')"),
    "name": (
        {"y": GOOD, "z": GOOD},
        "has no array for the input x; it has y, z",
        "name the arrays",
    ),
    "nan": (with_value(np.nan), "calibration data of x holds NaN or infinity", "sample 5"),
    "infinity": (with_value(-np.inf), "holds NaN or infinity, first in sample 5", "will see them"),
    "few": (GOOD[:7], "7 calibration samples are too few", "give 8 at least"),
    "one": (GOOD[0], "1 calibration sample is too few", "give 8 at least"),
    "zero": (0 * GOOD, "of x is zero throughout: its scale would be zero", "will see"),
    "tiny": (1e-44 * np.sign(GOOD), "the scale of x is 0.0", "--keep-float MODULE"),
    "huge": (3e38 * np.sign(GOOD), "conv2d is NaN or infinite for a calibration", "--keep-float"),
    "empty": (GOOD[:0], "there is nothing in the calibration data of x", "give [Nx1x4x8x8]"),
    "no array": ({}, "has no array for the input x; it has none", "name the arrays"),
    "no file": ("no.npz", "there is no file no.npz", "calibration data"),
    "suffix": (__file__, "calibration data in a .py file are not supported", "give an .npz"),
}


@pytest.mark.parametrize("error", SAMPLE_ERRORS)
def test_samples(error: str) -> None:
    given, what, hint = SAMPLE_ERRORS[error]
    text = page(calibration=given)
    assert what in text and hint in text


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(b"PK and nothing else")
    text = page(calibration=tmp_path / "c.npz")
    assert "cannot read the calibration data c.npz: it is no .npz archive" in text


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"x": Two()}, tmp_path / "c.pt")
    text = page(calibration=tmp_path / "c.pt")
    assert "cannot read the calibration data c.pt: it holds more than tensors" in text


@pytest.mark.parametrize("value", [{"x": 3}, [3], 3])
def test_numbers_are_no_tensors(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "c.pt")
    text = page(calibration=tmp_path / "c.pt")
    assert "c.pt: it holds a value of type int, not only tensors" in text


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan"), -0.5])
def test_a_scale_of_a_converted_model_that_is_none(scale: float) -> None:
    def forward(m: Any, x: Any) -> Any:
        q = m.conv(x), scale, 0, -128, 127, torch.int8
        calls = torch.ops.quantized_decomposed
        return calls.dequantize_per_tensor(calls.quantize_per_tensor(*q), *q[1:])

    text = page(Layers(forward).eval(), quantize=None, calibration=None)
    assert text.startswith(f"the scale of conv2d is {scale}\n  at    ")
    assert "test_quantize_calibration.py:" in text and "hint  calibrate again" in text


def test_a_scale_that_is_too_small_is_one_problem() -> None:
    text = page(calibration=1e-40 * GOOD)
    assert text.startswith("the scale of x is ")
    assert "unknown" not in text and "problems" not in text


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("missing", "data.py has no function missing"),
        ("no_list", "no_list() of data.py returns one int, not many inputs"),
        ("nothing", "nothing() of data.py gives nothing"),
        ("two", "data.py gives 2 inputs for a call, the model has 1"),
        ("fails", "fails() of data.py fails: ValueError: no more images"),
    ],
)
def test_scripts(function: str, what: str, script: Path) -> None:
    assert what in page(calibration=f"{script}:{function}")


def test_different_numbers_of_samples() -> None:
    given = {"tokens": np.zeros((8, 1, 5), np.int64), "gain": np.ones((9, 1, 5, 3), np.float32)}
    assert "differ in number: tokens: 8, gain: 9" in page(Two().eval(), TWO, calibration=given)


def test_a_model_in_training_mode() -> None:
    text = page(Layers(lambda m, x: m.bn(m.conv(x))).train())
    assert "batch_norm is in training mode" in text and "call model.eval()" in text


def test_a_value_that_is_infinite_is_named() -> None:
    text = page(Layers(lambda m, x: m.last((m.conv(x) * 100).exp().exp())).eval())
    assert "exp_1 is NaN or infinite for a calibration sample: it has no scale" in text
    assert "op    aten.exp.default" in text and "at    quantised.py:" in text


def test_a_value_that_is_not_a_number_is_named() -> None:
    text = page(Layers(lambda m, x: m.last(m.conv(x).log())).eval())
    assert "log is NaN or infinite for a calibration sample: it has no scale" in text


def test_a_quantised_model_is_not_quantised_again() -> None:
    program = torch.export.export(net(), (X,))
    done = converted.convert(program, "xnnpack", [torch.from_numpy(s) for s in GOOD[:2]])
    assert "the model is quantised already" in page(done, None)


def test_a_bundle_is_not_quantised(tmp_path: Path) -> None:
    emx.export(net(), (X,)).save(tmp_path / "net.emx")
    text = page(tmp_path / "net.emx", None)
    assert "net.emx is exported already" in text and "quantise the model that it was" in text


def test_options_without_quantize() -> None:
    text = page(quantize=None)
    assert "calibration data for a model that is not quantised" in text
    assert "add --quantize int8" in text
    text = page(quantize=None, calibration=None, keep_float=["conv"])
    assert "modules to keep in float for a model that is not quantised" in text


def test_an_unknown_scheme() -> None:
    assert "a model cannot be quantised to int3" in page(quantize="int3")


def test_an_unknown_module() -> None:
    text = page(keep_float=["convv"])
    assert "the model has no module convv to keep in float" in text
    assert "hint  there are conv" in text


def test_a_batch_norm_is_not_kept_alone() -> None:
    text = page(Layers(lambda m, x: m.bn(m.conv(x))).eval(), keep_float=["bn"])
    assert "a batch norm belongs to the layer before it" in text


def test_torchao_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "torchao":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    text = page()
    assert "quantising a model needs torchao, which is not installed" in text
    assert 'pip install "emx[quantize]"' in text
