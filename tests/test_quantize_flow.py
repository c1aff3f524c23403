# SPDX-License-Identifier: Apache-2.0
"""Quantisation from the command line to the figures: the cache, progress, what it costs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import converted
import emx
from emx.bundle import Bundle
from emx.cli import main
from emx.exporter import cached_export, outputs_of
from emx.ir import Array
from emx.options import CHOICES
from emx.paths import root
from quantised import Layers, noise, quantised, samples

pytest.importorskip("torchao")

X = torch.zeros(1, 4, 8, 8)


def layers() -> nn.Module:
    return Layers(lambda m, x: m.last(torch.relu(m.bn(m.conv(x))))).eval()


def decibel(floats: Array, got: Array) -> float:
    return float(10 * np.log10((floats**2).sum() / ((floats - got) ** 2).sum()))


# ---- The command line and the cache ----


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.export.save(torch.export.export(layers(), (X,)), tmp_path / "net.pt2")
    np.savez(tmp_path / "c.npz", x=samples(X))
    return tmp_path / "net.pt2"


def test_command_line(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = archive.with_name("net.emx")
    options = ["--quantize", "int8", "--calibration", str(archive.with_name("c.npz"))]
    code = ["--optimize", "size", "--ram", "min", "--no-slim", "--io", "float", "--strict"]
    assert main(["export", str(archive), "-o", str(out), *options, *code]) == 0
    assert capsys.readouterr().err == "emx: calibrating with 24 samples\n"
    bundle = Bundle.load(out)
    assert bundle.tensors["conv.weight"].dtype == np.int8
    assert noise(layers(), bundle) > 30
    assert main(["export", str(archive), "-o", str(out), "--quantize", "int8"]) == 2
    assert "quantising needs calibration data" in capsys.readouterr().err


@pytest.mark.parametrize("name", CHOICES)
def test_a_word_that_an_option_does_not_have(name: str) -> None:
    with pytest.raises(emx.EmxError, match=f"{name} is 'tiny'") as caught:
        emx.Options(**{name: "tiny"})
    assert f"hint  choose one of {', '.join(CHOICES[name])}" in str(caught.value)
    assert getattr(emx.Options(), name) == CHOICES[name][0]


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_tolerance_that_is_none(name: str, value: str) -> None:
    with pytest.raises(emx.EmxError, match=f"{name} is {float(value)}\n.*0 or more"):
        emx.Options(**{name: float(value)})


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    quantised(layers(), X, progress=lambda *now: told.append(now))
    assert told == [("calibrating", k, 24) for k in range(24)]


def export(archive: Path, cache: Path, **options: Any) -> tuple[bytes, tuple[Path, ...]]:
    out = cache.parent / "out.emx"
    settings = {"quantize": "int8", "calibration": str(archive.with_name("c.npz")), **options}
    read = cached_export(archive, out, cache_dir=cache, **settings)
    return out.read_bytes(), read


def test_the_cache_goes_by_samples_and_options(archive: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, read = export(archive, cache)
    assert set(read) == {archive, archive.with_name("c.npz")}
    assert export(archive, cache)[0] == first
    assert len(list(cache.glob("*.emx"))) == 1
    kept, _ = export(archive, cache, keep_float=("conv",))
    np.savez(archive.with_name("c.npz"), x=2 * samples(X))
    wide, _ = export(archive, cache)
    assert len({first, kept, wide}) == 3
    assert len(list(cache.glob("*.emx"))) == 3


def test_files_that_a_script_reads_are_dependencies(archive: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.npy"
    np.save(values, samples(X))
    script = tmp_path / "data.py"
    script.write_text(f"import numpy\ndef batches():\n    return numpy.load({str(values)!r})\n")
    cache = tmp_path / "cache"
    first, read = export(archive, cache, calibration=f"{script}:batches")
    assert set(read) == {archive, script, values}
    np.save(values, 3 * samples(X))
    assert export(archive, cache, calibration=f"{script}:batches")[0] != first


def test_importing_emx_quantize_imports_no_pytorch() -> None:
    code = "import sys, emx.quantize; assert not {'torch', 'torchao'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root() / "python")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ---- EmxQuantizer in flows of one's own ----


@pytest.mark.parametrize("training", [False, True])
def test_our_quantizer_in_torchao(training: bool) -> None:
    """By hand it quantises as --quantize does; in training batch norms go into their layers."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e import quantize_pt2e as pt2e

    from emx.quantize import EmxQuantizer

    net = layers().train(training)
    prepare = pt2e.prepare_qat_pt2e if training else pt2e.prepare_pt2e
    program = torch.export.export(net, (X,))
    model = prepare(program.module(), EmxQuantizer(training=training))
    for x in samples(X):
        model(torch.from_numpy(x))
    if training:
        move_exported_model_to_eval(model)
    result = torch.export.export(pt2e.convert_pt2e(model), (X,))
    bundle = emx.export(result)
    assert sum(".quantize_per_tensor." in n.target for n in bundle.nodes) == 3
    assert not [n for n in bundle.nodes if "batch_norm" in n.target]
    assert {a.dtype.name for a in bundle.tensors.values()} == {"int8", "int32", "float32", "int64"}
    if not training:
        own = quantised(layers(), X).vectors
        ((_, want),) = own.outputs.items()
        np.testing.assert_allclose(outputs_of(result, own.inputs).quantised, want, atol=1e-6)


# ---- What it costs ----


def test_outputs_of_both_models() -> None:
    x = {"x": samples(X)[:3]}
    both = outputs_of(layers(), x, (X,), quantize="int8", calibration=samples(X))
    assert both.floats is not None and both.quantised is not None
    with torch.no_grad():
        want = np.stack([layers()(torch.from_numpy(a)).numpy() for a in x["x"]])
    np.testing.assert_allclose(both.floats, want, atol=1e-6)
    assert decibel(want, both.quantised) > 30
    assert len(both.layers) == 3
    bundle = quantised(layers(), X)
    names = {n.name for n in bundle.nodes if ".quantize_per_tensor." in n.target}
    assert set(both.layers[0]) == names
    ((_, last),) = bundle.outputs
    source = next(n for n in bundle.nodes if n.name == last.name).args[0].name  # type: ignore
    np.testing.assert_allclose(both.layers[1][source], want[1], atol=1e-5)


def test_outputs_of_one_model(tmp_path: Path) -> None:
    x = {"x": samples(X)[:2]}
    floats = outputs_of(layers(), x, (X,))
    assert floats.floats is not None and floats.quantised is None
    bundle = quantised(layers(), X)
    bundle.save(tmp_path / "net.emx")
    assert outputs_of(tmp_path / "net.emx", x).floats is None
    program = converted.convert(torch.export.export(layers(), (X,)), "xnnpack", X.split(1))
    assert outputs_of(program, x).floats is None
    assert outputs_of(program, x).quantised is not None


# Decibels that are left of the output, and of what softmax is taken of.
LEFT = {"ad": 41, "kws": 15, "ic": 22, "vww": 38, "sww": 35}


@pytest.mark.slow
@pytest.mark.skipif(not converted.MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("net", LEFT)
def test_networks(net: str) -> None:
    """Against the float model on all samples, and the same decision for every genuine input."""
    given = converted.MODELS / f"{net}_calibration.npz"
    x = np.load(given)["x"]
    real = converted.MODELS / f"{net}_real.npz"
    genuine = np.load(real)["x"] if real.is_file() else x[:1]
    model = converted.MODELS / f"{net}.pt2"
    arrays = {"x": np.concatenate([x, genuine])[:, None]}
    both = outputs_of(model, arrays, quantize="int8", calibration=str(given))
    assert both.floats is not None and both.quantised is not None
    floats, integers = (a.reshape(len(a), -1) for a in (both.floats, both.quantised))
    assert decibel(floats, integers) > LEFT[net]
    same = floats.argmax(1) == integers.argmax(1)
    if net != "ad":  # whose output is no decision
        assert same[len(x) :].all() and same.mean() > 0.9
    print(f"{net}: {decibel(floats, integers):.1f} dB, same {same.mean():.3f}")


@pytest.mark.slow
def test_digits() -> None:
    """The example's network: int8 costs at most half a point on images it has never seen."""
    datasets = pytest.importorskip("sklearn.datasets")
    path = root() / "examples" / "firmware" / "train.py"
    spec = importlib.util.spec_from_file_location("train_digits", path)
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    data = datasets.load_digits()
    images, labels = (data.images / 16).astype(np.float32)[:, None], data.target
    torch.manual_seed(0)
    net = example.Digits()
    example.train(net, torch.from_numpy(images[:1400]), torch.from_numpy(labels[:1400]))
    unseen = {"image": images[1400:, None]}
    both = outputs_of(net, unseen, (X[:, :1],), quantize="int8", calibration=images[:128, None])
    right = [
        float((a.reshape(len(a), -1).argmax(1) == labels[1400:]).mean())
        for a in (both.floats, both.quantised)
        if a is not None
    ]
    assert right[0] > 0.9 and right[1] >= right[0] - 0.005
