# SPDX-License-Identifier: Apache-2.0
"""Models to bundles: what PyTorch says is the oracle; every refusal names the user's line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import emx
from emx.bundle import Bundle, Ref
from emx.errors import EmxError
from emx.export import cached_export
from emx.export.inputs import generate
from emx.ir import DType, TensorType

MODELS = Path(__file__).parents[2] / "shared" / "models"


class Net(nn.Module):
    """Convolution, batch norm, activation, pooling, a residual and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.drop = nn.Dropout()
        with torch.no_grad():
            self.bn.running_mean.normal_()
            self.bn.running_var.uniform_(0.5, 2.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu_(self.bn(self.conv(image)))
        x = functional.max_pool2d(x, 2) + 1.0
        x = self.drop(x).mean((2, 3)).contiguous()
        return torch.softmax(self.fc(x), dim=-1)


IMAGE = (torch.arange(2 * 2 * 6 * 6, dtype=torch.float32).reshape(2, 2, 6, 6).sin(),)


class Calls(nn.Module):
    """A module whose forward is a function; it has a layer, a buffer and a parameter to use."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


X = torch.tensor([[0.5, -1.0, 2.0, 0.25], [1.5, 3.0, -2.0, 0.75]])


def export(function: Callable[..., Any], **options: Any) -> Bundle:
    return emx.export(Calls(function).eval(), (X,), **options)


def refusal(model: Any, *args: Any, **options: Any) -> EmxError:
    with pytest.raises(EmxError) as caught:
        emx.export(model, *args, **options)
    return caught.value


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
    assert bundle.nodes[2].args == (Ref("_native_batch_norm_legit_no_training.0"),)
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
    line = Path(__file__).read_text().splitlines().index(f"        {softmax.text}") + 1
    assert softmax.source == f"test_export.py:{line}"
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
        (lambda s, x: (x, s.count), {"x_1": "x", "b_count": "count"}),
        (lambda s, x: (x + 1, None, 3), {"add": "add"}),
        (lambda s, x: torch.topk(x, 2), {"getitem": "topk.0", "getitem_1": "topk.1"}),
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
    assert what in error.head.what
    assert hint is None or hint in (error.head.hint or "")
    assert "test_export.py:" in (error.head.at or "")


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
        assert bundle.nodes[0].origin.source.startswith("test_export.py:")
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
        ({"x": np.zeros((0, 2, 4), np.float32)}, "x has shape [0x2x4]"),
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
    model = nn.Embedding(5, 3)
    error = refusal(model, (torch.zeros(2, dtype=torch.int64),), vectors=8)
    assert "the model fails on its test inputs: IndexError" in error.head.what
    assert "--example-inputs" in (error.head.hint or "")


def script(folder: Path, body: str) -> str:
    (folder / "net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.relu(x)\n"
    )
    (folder / "build.py").write_text("import torch\nfrom net import Net\n" + textwrap.dedent(body))
    return f"{folder / 'build.py'}:make"


MAKE = """
def make():
    print("building")
    return Net().eval(), (torch.tensor([1.0, -1.0]),)
"""


def test_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules), list(sys.path)
    bundle = emx.export(script(tmp_path, MAKE))
    assert bundle.name == "build"
    assert bundle.nodes[0].origin.source == "net.py:5"
    np.testing.assert_array_equal(bundle.vectors.outputs["relu"][0], [1, 0])
    assert "building" not in capsys.readouterr().out
    assert "net" not in sys.modules
    assert sys.path == before[1]


@pytest.mark.parametrize(
    ("body", "what", "at"),
    [
        ("def other(): pass", "build.py has no function make", "build.py"),
        ("def make(): return Net()", "make() of build.py returns a Net", "build.py"),
        ("def make(): return Net(), (), 3", "returns a tuple of 3", "build.py"),
        ("def make(): return 3, (torch.ones(2),)", "expected a torch.nn.Module, got int", None),
        ("def make():\n    return [][0]", "IndexError: list index out of range", "build.py:4: "),
        ("import sys\nsys.exit(3)", "build.py fails: SystemExit: 3", "build.py:4: sys.exit(3)"),
        ("import nowhere", "No module named 'nowhere'", "build.py:3: import nowhere"),
        ("def make(:", "SyntaxError: invalid syntax", "build.py:3: def make(:"),
    ],
)
def test_scripts_that_fail(body: str, what: str, at: str | None, tmp_path: Path) -> None:
    error = refusal(script(tmp_path, body))
    assert what in error.head.what
    assert at is None or at in (error.head.at or "")


def test_a_script_beside_its_virtual_environment_unloads_no_library(tmp_path: Path) -> None:
    library = tmp_path / "venv" / "site-packages" / "emx_test_library.py"
    library.parent.mkdir(parents=True)
    library.write_text("")
    body = f"import sys\nsys.path.append({str(library.parent)!r})\nimport emx_test_library"
    emx.export(script(tmp_path, body + MAKE))
    assert sys.modules.pop("emx_test_library")


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    error = refusal(tmp_path / "net.pt2")
    assert error.head.what == "exporting a model needs PyTorch, which is not installed"
    assert "pip install torch" in (error.head.hint or "")


def test_a_missing_script(tmp_path: Path) -> None:
    assert "there is no file" in refusal(f"{tmp_path}/no.py:make").head.what


def test_a_bundle_is_a_model(tmp_path: Path) -> None:
    bundle = emx.export(Net().eval(), IMAGE, name="net")
    bundle.save(tmp_path / "net.emx")
    assert emx.export(tmp_path / "net.emx").to_bytes() == bundle.to_bytes()
    assert emx.export(tmp_path / "net.emx", name="other").name == "other"


def archive(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(Net().eval(), IMAGE), folder / "net.pt2")
    return folder / "net.pt2"


EXPORT = """
import sys, pathlib, emx
emx.export(sys.argv[1]).save(pathlib.Path(sys.argv[2]))
"""


def python(code: str, *args: str | Path, seed: str = "0") -> str:
    source = str(Path(__file__).parents[1] / "python")
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_export_is_the_same_bytes_in_any_directory_under_any_hash_seed(tmp_path: Path) -> None:
    first = archive(tmp_path / "one")
    second = tmp_path / "other place" / "net.pt2"
    second.parent.mkdir()
    second.write_bytes(first.read_bytes())
    expected = emx.export(first).to_bytes()
    assert emx.export(second).to_bytes() == expected
    assert python(EXPORT, second, tmp_path / "out.emx", seed="1") == ""
    assert (tmp_path / "out.emx").read_bytes() == expected


CACHED = """
import sys, pathlib
from emx.export import cached_export
out, cache = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
cached_export(sys.argv[1], out, cache_dir=cache)
assert "torch" not in sys.modules
"""


def test_the_cache_needs_no_torch(tmp_path: Path) -> None:
    model, cache = archive(tmp_path), tmp_path / "cache"
    files = cached_export(model, tmp_path / "a.emx", cache_dir=cache)
    assert files == (model.resolve(),)
    moved = tmp_path / "moved" / "net.pt2"
    moved.parent.mkdir()
    model.rename(moved)
    python(CACHED, moved, tmp_path / "b.emx", cache)
    assert (tmp_path / "b.emx").read_bytes() == (tmp_path / "a.emx").read_bytes()
    python(CACHED, tmp_path / "b.emx", tmp_path / "c.emx", cache)  # a bundle needs none either
    assert (tmp_path / "c.emx").read_bytes() == (tmp_path / "a.emx").read_bytes()


def test_the_cache_notices_every_change(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps([2.0, -2.0]))
    model = script(
        tmp_path,
        """
        import json, pathlib
        def make():
            data = json.loads(pathlib.Path(__file__).with_name("data.json").read_text())
            return Net().eval(), (torch.tensor(data),)
        """,
    )
    out, cache = tmp_path / "a.emx", tmp_path / "cache"

    def run(**options: Any) -> tuple[bool, tuple[Path, ...]]:
        entries = {f: f.stat().st_mtime_ns for f in cache.glob("*.emx")}
        files = cached_export(model, out, cache_dir=cache, **options)
        return entries != {f: f.stat().st_mtime_ns for f in cache.glob("*.emx")}, files

    first, files = run()
    assert first
    assert files[0] == tmp_path / "build.py"
    assert set(files) == {tmp_path / name for name in ("build.py", "net.py", "data.json")}
    stamp = out.stat().st_mtime_ns
    assert run() == (False, files)
    assert out.stat().st_mtime_ns == stamp
    assert run(vectors=2)[0]
    assert run(name="other")[0]
    assert run(vectors=2) == (False, files)
    data.write_text(json.dumps([3.0, -2.0]))
    assert run()[0]
    assert Bundle.load(out).vectors.inputs["x"][0][0] == 3
    net = tmp_path / "net.py"
    net.write_text(net.read_text().replace("relu", "sigmoid"))
    assert run()[0]
    assert [n.target for n in Bundle.load(out).nodes] == ["aten.sigmoid.default"]


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    model, cache = archive(tmp_path), tmp_path / "cache"
    cached_export(model, tmp_path / "a.emx", cache_dir=cache)
    expected = (tmp_path / "a.emx").read_bytes()
    for entry in cache.iterdir():
        entry.write_bytes(entry.read_bytes()[:-5])
        cached_export(model, tmp_path / "a.emx", cache_dir=cache)
        assert (tmp_path / "a.emx").read_bytes() == expected


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(EmxError, match="is empty"):
        cached_export(tmp_path / "net.pt2", tmp_path / "a.emx", cache_dir=tmp_path / "cache")
    assert [f.name for f in tmp_path.iterdir()] == ["net.pt2"]


def test_importing_emx_export_imports_no_torch() -> None:
    python("import sys, emx.export, emx; assert not {'torch', 'jinja2'} & set(sys.modules)")


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
