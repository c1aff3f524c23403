# SPDX-License-Identifier: Apache-2.0
"""Models that others quantised are exported as they are: integers stay integers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import converted
import emx
from emx.bundle import Bundle, Ref
from emx.ir import DType
from export_models import refusal

torchao = pytest.importorskip("torchao")

Q, DQ = "quantize_per_tensor", "dequantize_per_tensor"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.bn(self.conv(image)))
        scores = self.fc(hidden.mean((2, 3)))
        return scores


IMAGES = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0)).split(1)


def small(form: str) -> Any:
    return converted.convert(torch.export.export(Small().eval(), (IMAGES[0],)), form, IMAGES)


def calls(bundle: Bundle) -> Counter[str]:
    return Counter(n.target.split(".")[1] for n in bundle.nodes)


def test_integers_stay_integers(tmp_path: Path) -> None:
    """Weights are int8, what is dequantised is no constant, and no float weight is left."""
    torch.export.save(small("xnnpack"), tmp_path / "net.pt2")
    bundle = emx.export(tmp_path / "net.pt2", vectors=3)
    assert calls(bundle)["dequantize_per_channel"] == 2
    assert calls(bundle)[Q] == calls(bundle)[DQ] > 3
    weights = {k: a for k, a in bundle.tensors.items() if a.dtype == np.int8}
    assert sorted(a.shape for a in weights.values()) == [(3, 4), (4, 2, 3, 3)]
    floats = sum(a.size for a in bundle.tensors.values() if a.dtype == np.float32)
    assert floats == 2 * (4 + 3)  # scales and biases


def test_calls_and_vectors_are_those_of_the_converted_model() -> None:
    program = small("x86")
    bundle = emx.export(program, vectors=2)
    first = next(n for n in bundle.nodes if n.target == f"quantized_decomposed.{Q}.default")
    x, scale, zero, lo, hi, dtype = first.args
    assert (x, lo, hi, dtype) == (Ref("image"), 0, 255, DType.U8)
    assert isinstance(scale, float) and isinstance(zero, int)
    image = torch.from_numpy(bundle.vectors.inputs["image"][1])
    expected = program.module()(image).detach().numpy()
    np.testing.assert_array_equal(bundle.vectors.outputs["scores"][1], expected)
    assert bundle.vectors.layers[first.name].dtype == np.uint8
    assert not [n for n in bundle.vectors.layers if n.startswith("dequantize_per_channel")]


def test_an_output_has_the_name_of_what_is_quantised() -> None:
    (output,) = emx.export(small("xnnpack"), vectors=1).outputs
    assert output[0] == "scores"
    assert output[1].name.startswith(DQ)


def test_a_scale_for_each_run_is_refused() -> None:
    page = str(refusal(small("dynamic")))
    assert "gets its scale in each run, by dynamic quantisation" in page
    assert "test_quantize_export.py" in page
    assert "op    quantized_decomposed.choose_qparams" in page
    assert "--quantize int8" in page


@pytest.mark.slow
@pytest.mark.skipif(not converted.MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("form", ["xnnpack", "x86", "arm", "qat"])
@pytest.mark.parametrize("net", converted.NETS)
def test_networks(net: str, form: str) -> None:
    """As many calls as in the file, and of what is as large as a weight only integers."""
    file = converted.archive(net, form)
    bundle = emx.export(file, vectors=1)
    program = torch.export.load(file)
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    found = calls(bundle)
    for call in (Q, DQ, "dequantize_per_channel"):
        assert found[call] == sum(f".{call}." in target for target in targets)
    assert found[Q] >= 10 and found[DQ] + found["dequantize_per_channel"] >= 20
    assert all(a.ndim < 2 for a in bundle.tensors.values() if a.dtype.kind == "f")
    kept = sum(a.nbytes for a in bundle.tensors.values())
    assert kept < 0.5 * sum(t.nbytes for t in program.state_dict.values())
