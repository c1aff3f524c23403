# SPDX-License-Identifier: Apache-2.0
"""Models to bundles: what PyTorch says is the oracle; every refusal names the user's line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import emx
import export_models
from emx.bundle import Bundle, Ref
from emx.errors import EmxError
from export_models import IMAGE, Calls, Net, X, refusal

MODELS = Path(__file__).parents[2] / "shared" / "models"


def export(function: Callable[..., Any], **options: Any) -> Bundle:
    return emx.export(Calls(function).eval(), (X,), **options)


def test_a_module_becomes_a_bundle() -> None:
    bundle = emx.export(Net().eval(), IMAGE, name="net")
    assert [(name, str(t)) for name, t in bundle.inputs] == [("image", "f32[2x2x6x6]")]
    assert bundle.outputs == (("softmax", Ref("softmax")),)
    assert [n.target for n in bundle.nodes] == [
        "aten.conv2d.default", "aten._native_batch_norm_legit_no_training.default",
        "aten.relu.default", "aten.max_pool2d.default", "aten.add.Tensor", "aten.mean.dim",
        "aten.linear.default", "aten.softmax.int",
    ]  # fmt: skip
    assert sorted(bundle.tensors) == [
        "bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "conv.bias", "conv.weight",
        "fc.bias", "fc.weight",
    ]  # fmt: skip
    conv = bundle.nodes[0]
    assert conv.args == (
        Ref("image"), Ref("conv.weight"), Ref("conv.bias"), (1, 1), (1, 1), (1, 1), 1,
    )  # fmt: skip
    assert bundle.nodes[2].args == (Ref("batch_norm.0"),)
    np.testing.assert_array_equal(bundle.tensors["conv.weight"], Net().conv.weight.detach())


def test_vectors_are_what_pytorch_gives() -> None:
    bundle = emx.export(Net().eval(), IMAGE, vectors=3)
    vectors = bundle.vectors
    assert vectors.count == 3
    np.testing.assert_array_equal(vectors.inputs["image"][0], IMAGE[0])
    with torch.no_grad():
        expected = [Net().eval()(torch.tensor(x)).numpy() for x in vectors.inputs["image"]]
    np.testing.assert_allclose(vectors.outputs["softmax"], expected, rtol=1e-6)
    names = [name for n in bundle.nodes for name in n.output_names]
    assert list(vectors.layers) == names
    with torch.no_grad():
        conv = Net().conv(IMAGE[0]).numpy()
    np.testing.assert_allclose(vectors.layers["conv2d"], conv, rtol=1e-6)
    np.testing.assert_allclose(vectors.layers["softmax"], expected[0], rtol=1e-6)


def test_origins_name_the_users_line_and_module() -> None:
    bundle = emx.export(Net().eval(), IMAGE)
    origins = {n.target: n.origin for n in bundle.nodes}
    conv, softmax = origins["aten.conv2d.default"], origins["aten.softmax.int"]
    assert (conv.module, softmax.module) == ("conv", "")
    lines = Path(export_models.__file__).read_text().splitlines()
    assert softmax.source == f"export_models.py:{lines.index(f'        {softmax.text}') + 1}"
    assert conv.text == "x = functional.relu_(self.bn(self.conv(image)))"


def test_calls_under_no_grad_keep_their_origin() -> None:
    class Guarded(Calls):
        def forward(self, x: torch.Tensor) -> Any:
            with torch.no_grad():
                y = self.fc(x)
            return torch.relu(y)

    bundle = emx.export(Guarded(lambda s, x: x).eval(), (X,))
    assert (bundle.nodes[0].origin.module, bundle.nodes[0].origin.text) == ("fc", "y = self.fc(x)")


def test_a_call_starts_from_a_fresh_copy_and_leaves_the_model_alone() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x * self.calls

    model = Counting()
    vectors = emx.export(model, (X,), vectors=3).vectors
    np.testing.assert_array_equal(vectors.outputs["mul"], vectors.inputs["x"])
    assert model.calls == 0


@pytest.mark.parametrize(
    ("function", "outputs"),
    [
        (lambda s, x: (x + 1, x * 2), {"add": "add", "mul": "mul"}),
        (lambda s, x: {"a": x + 1, "b": [x * 2, x]}, {"a": "add", "b_0": "mul", "b_1": "x"}),
        (lambda s, x: (lambda y: (y, y))(x + 1), {"add": "add", "add_1": "add"}),
        (lambda s, x: (x, s.count), {"x_out": "x", "count": "count"}),
        (lambda s, x: (x + 1, None, 3), {"add": "add"}),
        (lambda s, x: torch.topk(x, 2), {"values": "topk.0", "indices": "topk.1"}),
        (lambda s, x: x.contiguous().detach().clone().float(), {"to": "x"}),
    ],
)
def test_outputs(function: Callable[..., Any], outputs: dict[str, str]) -> None:
    bundle = export(function)
    assert {name: ref.name for name, ref in bundle.outputs} == outputs
    expected = torch.utils._pytree.tree_leaves(Calls(function).eval()(X))
    tensors = [e for e in expected if isinstance(e, torch.Tensor)]
    for (name, _), value in zip(bundle.outputs, tensors, strict=True):
        np.testing.assert_array_equal(bundle.vectors.outputs[name][0], value.detach())


def test_outputs_can_be_named() -> None:
    assert export(lambda s, x: (x + 1, x), outputs=["a", "b"]).outputs[1] == ("b", Ref("x"))
    error = refusal(Calls(lambda s, x: x + 1).eval(), (X,), outputs=["a", "b"])
    assert error.head.what == "2 names for 1 outputs"
    assert "no tensor" in refusal(Calls(lambda s, x: 3).eval(), (X,)).head.what


def test_arguments_by_keyword_nested_and_constant() -> None:
    class Takes(nn.Module):
        def forward(self, xs: Any, d: Any, flag: bool = True, *, k: torch.Tensor) -> Any:
            return xs[0] * d["u"] - k if flag else xs[1]

    example = {"xs": [X, X + 1], "d": {"u": X + 2}, "flag": True, "k": X + 3}
    bundle = emx.export(Takes(), example, vectors=2)
    assert [name for name, _ in bundle.inputs] == ["xs_0", "xs_1", "d_u", "k"]
    i = bundle.vectors.inputs
    expected = i["xs_0"] * i["d_u"] - i["k"]
    np.testing.assert_allclose(bundle.vectors.outputs["sub"], expected, rtol=1e-6)


def test_tied_weights_appear_once_and_names_do_not_clash() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.mul = nn.Parameter(torch.ones(4))
            self.topk = nn.ParameterList([torch.ones(2), torch.zeros(2)])
            self.unused = nn.Linear(99, 99)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values, _ = torch.topk(self.b(self.a(x)) * self.mul, 2)
            return values * self.topk[0] + self.topk[1]

    bundle = emx.export(Tied().eval(), (X,))
    assert list(bundle.tensors) == ["p_mul", "a.weight", "a.bias", "b.bias", "p_topk_0", "p_topk_1"]
    names = [n for node in bundle.nodes for n in node.output_names]
    assert not set(names) & set(bundle.tensors)


def test_operators_that_stay_whole() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 4, 2, dropout=0.5, batch_first=True)
            self.gru = nn.GRU(4, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.norms = nn.Sequential(nn.LayerNorm(4), nn.RMSNorm(4), nn.GELU(), nn.SiLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.gru(self.lstm(x)[0])[0]
            x, _ = self.attention(x, x, x, need_weights=False)
            x = functional.adaptive_avg_pool1d(self.norms(x), 2)
            x = functional.avg_pool1d(functional.pad(x, (1, 1), mode="reflect"), 2)
            return functional.log_softmax(x, dim=-1)

    bundle = emx.export(Whole().eval(), (X[None],))
    targets = {n.target.split(".")[1] for n in bundle.nodes}
    assert targets >= {
        "lstm", "gru", "scaled_dot_product_attention", "layer_norm", "rms_norm", "gelu", "silu",
        "adaptive_avg_pool1d", "avg_pool1d", "pad", "log_softmax", "linear",
    }  # fmt: skip
    ((name, ref),) = bundle.outputs
    np.testing.assert_allclose(
        bundle.vectors.layers[ref.name], bundle.vectors.outputs[name][0], atol=1e-5
    )


def count(s: Calls, x: torch.Tensor) -> Any:
    s.count.add_(1)
    return x + s.count


def write(s: Calls, x: torch.Tensor) -> Any:
    x.add_(1)
    return x * 2


def branch(s: Calls, x: torch.Tensor) -> Any:
    return x if x.sum() > 0 else x * 2


@pytest.mark.parametrize(
    ("function", "what", "hint"),
    [
        (count, "the model changes its buffer count", "state that a model keeps"),
        (write, "the model changes its input x", "x = x.clone()"),
        (branch, "Could not guard on data-dependent expression", "must not depend on the values"),
        (lambda s, x: x * x.sum().item(), "its result depends on the values", "must not depend"),
        (lambda s, x: x.nonzero(), "depends on the values of the input", "must not depend"),
        (lambda s, x: x @ torch.ones(3, 3), "a and b must have same reduction dim", None),
        (lambda s, x: x.half(), "data type float16 is not supported", "model.float()"),
        (lambda s, x: torch.fft.fft(x), "data type complex64 is not supported", "real numbers"),
        (lambda s, x: x + torch.rand(2, 4), "rand is random", "as an input"),
        (lambda s, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), "control flow", "must"),
        (lambda s, x: functional.dropout(x), "dropout is in training mode", "model.eval()"),
        (lambda s, x: s.missing(x), "'Calls' object has no attribute 'missing'", None),
    ],
)
def test_refused_models(function: Callable[..., Any], what: str, hint: str | None) -> None:
    error = refusal(Calls(function).eval(), (X,))
    first = error.problems[0] if error.problems else error.head
    assert what in first.what
    assert hint is None or hint in (first.hint or "")
    assert any(f"{file}.py:" in (first.at or "") for file in ("test_export", "export_models"))


def test_tensors_kept_in_attributes() -> None:
    class Keeps(nn.Module):
        def __init__(self, adds: bool) -> None:
            super().__init__()
            self.adds, self.last = adds, torch.zeros(2, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = x + self.last if self.adds else x
            return self.last * 2

    error = refusal(Keeps(adds=True), (X,))
    assert error.head.what == "the model computes with a tensor of its last call: self.last"
    assert "state that a model keeps" in (error.head.hint or "")
    emx.export(Keeps(adds=False), (X,))  # only looked at

    class Constant(Keeps):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last.add_(x)

    error = refusal(Constant(adds=True), (X,))
    assert "Constant last is mutated" in error.head.what
    assert "state that a model keeps" in (error.head.hint or "")


def test_training_mode_is_refused_with_every_place() -> None:
    error = refusal(Net().train(), IMAGE)
    assert error.head.what == "2 operators are in training mode"
    page = str(error)
    assert "batch_norm is in training mode: it changes its buffer bn.running_mean" in page
    assert "(module drop)" in page
    assert "call model.eval()" in page


@pytest.mark.parametrize("name", ["ad", "kws", "ic", "vww", "sww"])
def test_the_reference_networks(name: str) -> None:
    if not MODELS.is_dir():
        pytest.skip("needs the reference networks in ../shared/models")
    stored = np.load(MODELS / f"{name}_vectors.npz")
    bundle = emx.export(
        MODELS / f"{name}.pt2", example_file=MODELS / f"{name}_vectors.npz", vectors=2
    )
    np.testing.assert_array_equal(bundle.vectors.inputs["x"][:, 0], stored["x"][:2])
    (output,) = bundle.vectors.outputs.values()
    np.testing.assert_allclose(output[:, 0], stored["y"][:2], rtol=1e-4, atol=1e-5)
    assert all(node.origin.source.startswith("networks.py:") for node in bundle.nodes)


def test_a_file_gives_its_name_made_fit_for_c(tmp_path: Path) -> None:
    path = tmp_path / "net-2 v1.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (X,)), path)
    assert emx.export(path).name == "net_2_v1"
    with pytest.raises(EmxError, match="'a-b' cannot be the name of C functions") as error:
        emx.export(path, name="a-b")
    assert "--name a_b" in (error.value.head.hint or "")
