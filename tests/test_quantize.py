# SPDX-License-Identifier: Apache-2.0
"""Where EmxQuantizer quantises, and how: what a model of integers consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from emx.bundle import AtenNode, Bundle, Ref
from emx.ir import Array, DType
from quantised import Layers, noise, quantised, samples, scales

pytest.importorskip("torchao")

X = torch.zeros(1, 4, 8, 8)


class Calls:
    """The calls of a quantised bundle: who reads what, in which scale."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.nodes = {n.name: n for n in bundle.nodes}

    def named(self, op: str) -> AtenNode:
        (found,) = [n for n in self.bundle.nodes if n.target.split(".")[1] == op]
        return found

    def count(self, op: str = "quantize_per_tensor") -> int:
        return sum(n.target.split(".")[1] == op for n in self.bundle.nodes)

    def scale_of(self, name: str) -> tuple[float, int] | None:
        """(scale, zero point) of the result of a call, if that is quantised."""
        found = {
            n.args[1:3]
            for n in self.bundle.nodes
            if n.target.split(".")[1] == "quantize_per_tensor" and n.args[0] == Ref(name)
        }
        return found.pop() if len(found) == 1 else None  # type: ignore[return-value]

    def scale_read(self, op: str, operand: int = 0) -> tuple[float, int]:
        """That of an operand."""
        ref = self.named(op).args[operand]
        assert isinstance(ref, Ref)
        dequantize = self.nodes[ref.name]
        assert dequantize.target.split(".")[1] == "dequantize_per_tensor"
        return dequantize.args[1:3]  # type: ignore[return-value]

    def constant(self, op: str, operand: int) -> tuple[Array, Array]:
        """The integers and scales of a parameter that is dequantised by channels."""
        ref = self.named(op).args[operand]
        assert isinstance(ref, Ref)
        data, scales = self.nodes[ref.name].args[:2]
        assert isinstance(data, Ref) and isinstance(scales, Ref)
        return self.bundle.tensors[data.name], self.bundle.tensors[scales.name]


def calls(forward: Callable[[Any, Any], Any], x: Any = X, **options: Any) -> Calls:
    return Calls(quantised(Layers(forward), x, **options))


def test_a_convolution_with_batch_norm_and_relu_is_quantised_once() -> None:
    c = calls(lambda m, x: m.last(torch.relu(m.bn(m.conv(x)))))
    assert c.count() == 3  # the input, the hidden layer, the output
    assert c.scale_of("conv2d") is None
    assert not [n for n in c.bundle.nodes if "batch_norm" in n.target]
    assert c.scale_of("relu") is not None and c.scale_of("relu")[1] == -128  # type: ignore[index]


def test_a_sum_with_relu_is_quantised_once() -> None:
    c = calls(lambda m, x: torch.relu(m.last(m.conv(x)) + x))
    assert c.scale_of("add") is None
    assert c.scale_of("relu") is not None


def test_weights_have_a_scale_for_each_output_and_biases_that_of_the_products() -> None:
    net = Layers(lambda m, x: m.conv(x))
    c = Calls(quantised(net, X))
    weight, weight_scales = c.constant("conv2d", 1)
    bias, bias_scales = c.constant("conv2d", 2)
    assert (weight.dtype, bias.dtype) == (np.int8, np.int32)
    assert weight_scales.shape == bias_scales.shape == (6,)
    np.testing.assert_allclose(bias_scales, c.scale_read("conv2d")[0] * weight_scales, rtol=1e-6)
    most = np.abs(net.conv.weight.detach().numpy()).max(axis=(1, 2, 3))
    np.testing.assert_allclose(weight_scales, most / 127, rtol=1e-6)
    real = net.conv.bias.detach().numpy()
    np.testing.assert_allclose(bias * bias_scales, real, atol=bias_scales.max())
    assert "conv.weight" in c.bundle.tensors and "conv.bias_scale" in c.bundle.tensors


MOVES: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: x.reshape(1, 16, 16),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "slice": lambda x: x[:, 1:, ::2],
    "select": lambda x: x[:, 0],
    "pad": lambda x: functional.pad(x, (1, 2, 1, 2)),
    "reflect": lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"),
    "max_pool2d": lambda x: functional.max_pool2d(x, 2),
    "amax": lambda x: x.amax((2, 3)),
    "flip": lambda x: x.flip(2),
    "nearest": lambda x: functional.interpolate(x, scale_factor=2),
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "expand": lambda x: x[:, :1].expand(1, 4, 8, 8),
    "cat": lambda x: torch.cat([x, x.flip(1)], 1),
    "split": lambda x: x.split(1, 1)[2],
}


@pytest.mark.parametrize("move", MOVES)
def test_data_movement_keeps_scale_and_zero_point(move: str) -> None:
    c = calls(lambda m, x: MOVES[move](x))
    scales = {n.args[1:3] for n in c.bundle.nodes if "quantize_per_tensor" in n.target}
    assert len(scales) == 1


def test_what_is_joined_shares_a_scale() -> None:
    c = calls(lambda m, x: m.wide(torch.cat([m.last(m.conv(x)), x, x.tanh().tan()], 1)))
    joined = c.named("cat").args[0]
    assert isinstance(joined, tuple)
    scales = {c.nodes[r.name].args[1:3] for r in joined if isinstance(r, Ref)}
    assert scales == {c.scale_of("cat")} == {c.scale_of("conv2d_1")}


def test_a_parameter_that_is_joined_shares_the_scale() -> None:
    c = calls(lambda m, x: torch.cat([x, m.token.expand(1, 4, 8, 1)], 3))
    assert c.scale_of("cat") == c.scale_of("x")
    (token,) = (a for a in c.bundle.tensors.values() if a.dtype == np.int8)
    step, zero = c.scale_of("cat") or (0, 0)
    np.testing.assert_allclose((token - np.float32(zero)) * step, 9.0, atol=step)
    c = calls(lambda m, x: torch.cat([x.sigmoid(), m.token.expand(1, 4, 8, 1)], 3))
    assert c.scale_of("cat") != c.scale_of("sigmoid") == (1 / 256, -128)


def test_what_has_a_fixed_scale_is_quantised_again_where_it_is_joined() -> None:
    c = calls(lambda m, x: torch.cat([x, x.sigmoid()], 1))
    assert c.scale_of("sigmoid") == (1 / 256, -128)
    assert c.scale_of("cat") == c.scale_of("x") != (1 / 256, -128)
    joined = c.named("cat").args[0]
    assert isinstance(joined, tuple)
    assert {c.nodes[r.name].args[1:3] for r in joined if isinstance(r, Ref)} == {c.scale_of("cat")}


@pytest.mark.parametrize(
    ("name", "function", "scale"),
    [
        ("softmax", lambda x: x.softmax(1), (1 / 256, -128)),
        ("sigmoid", lambda x: x.sigmoid(), (1 / 256, -128)),
        ("tanh", lambda x: x.tanh(), (1 / 128, 0)),
        ("tanh", lambda x: (2 * x + 1).tanh(), (1 / 128, 0)),
    ],
)
def test_known_ranges(name: str, function: Callable[[Any], Any], scale: tuple[float, int]) -> None:
    assert calls(lambda m, x: function(m.conv(x))).scale_of(name) == scale


@pytest.mark.parametrize(
    "function",
    [
        functional.silu,
        functional.gelu,
        functional.hardswish,
        lambda x: x * torch.sigmoid(x),
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: (x.abs() + 1).log(),
    ],
)
def test_a_function_of_one_value_is_one_step(function: Callable[[Any], Any]) -> None:
    assert calls(lambda m, x: m.last(function(m.conv(x)))).count() == 4


def test_a_function_whose_parts_are_read_elsewhere_is_several() -> None:
    def forward(m: Any, x: Any) -> Any:
        inner = m.conv(x).exp()
        return m.last(inner) + inner[:, :4].log1p()

    c = calls(forward)
    assert c.scale_of("exp") is not None and c.scale_of("log1p") is not None


def test_a_multiple_of_a_value_has_a_multiple_of_its_scale() -> None:
    c = calls(lambda m, x: m.conv(0.125 * x.flip(1)))
    scale, zero = c.scale_of("flip") or (0, 0)
    assert c.scale_of("mul") == (pytest.approx(scale / 8, rel=1e-6), zero)
    assert calls(lambda m, x: m.conv(x) / 8).count() == 2  # a layer in other steps


def test_attention_is_spelled_out() -> None:
    def forward(m: Any, x: Any) -> Any:
        rows = x[:, 0]
        return functional.scaled_dot_product_attention(m.fc(rows), m.fc(rows), rows)

    c = calls(forward)
    assert c.count("matmul") == 2 and c.count("softmax") == 1
    assert c.scale_of("matmul") is None and c.scale_of("mul") is not None
    assert c.scale_of("softmax") == (1 / 256, -128)


def test_what_is_masked_with_infinity_is_not_quantised() -> None:
    def forward(m: Any, x: Any) -> Any:
        mask = torch.ones(8, 8, dtype=torch.bool).tril()
        scores = (m.fc(x[:, 0]) @ x[:, 1]).masked_fill(~mask, -torch.inf)
        return scores.softmax(-1) @ x[:, 0]

    c = calls(forward)
    assert c.scale_of("masked_fill") is None and c.scale_of("where") is None
    assert c.scale_of("softmax") == (1 / 256, -128)
    assert all(0 < s < 1 for s in scales(c.bundle))


def test_parameters_beside_a_value_are_quantised() -> None:
    c = calls(lambda m, x: m.conv(x) + m.shift)
    assert c.bundle.tensors["shift"].dtype == np.int8
    assert c.scale_of("add") is not None


def test_products_with_a_matrix_are_linear_layers() -> None:
    c = calls(lambda m, x: x[:, 0] @ m.matrix)
    assert c.count("linear") == 1 and c.count("matmul") == 0
    weight, scales = c.constant("linear", 1)
    assert weight.shape == (5, 8) and scales.shape == (5,)


def test_an_output_of_integers_is_dequantised_once() -> None:
    c = calls(lambda m, x: m.conv(x))
    ((_, ref),) = c.bundle.outputs
    assert c.nodes[ref.name].target == "quantized_decomposed.dequantize_per_tensor.default"
    first = next(n for n in c.bundle.nodes if n.args[0] == Ref("x"))
    assert first.args[3:] == (-128, 127, DType.S8)


NORMS: dict[str, tuple[Callable[[Any, Any], Any], int]] = {
    "after a layer that is read twice": (lambda m, x: m.bn(y := m.conv(x)) * y, 2),
    "before a layer": (lambda m, x: m.conv(torch.relu(m.bn4(x))), 2),
    "after a linear layer": (lambda m, x: m.bn8(m.fc(x[:, 0, 0])), 1),
    "of rows": (lambda m, x: m.bn8(x[:, 0, 0]), 1),
    "after a transposed convolution": (lambda m, x: m.bn(m.up(x)), 1),
    "after one of groups": (lambda m, x: m.bn(m.grouped(x)), 1),
}


@pytest.mark.parametrize("where", NORMS)
def test_no_batch_norm_is_left(where: str) -> None:
    forward, layers = NORMS[where]
    net = Layers(forward)
    bundle = quantised(net, X)
    weights = [n for n in bundle.nodes if "conv" in n.target or "linear" in n.target]
    assert len(weights) == layers
    assert not [n for n in bundle.nodes if "batch_norm" in n.target]
    assert noise(net, bundle) > 30


def test_one_layer_with_two_batch_norms() -> None:
    net = Layers(lambda m, x: m.bn(m.conv(x)) + m.other_bn(m.conv(x)))
    assert noise(net, quantised(net, X)) > 30


def test_transposed_convolutions() -> None:
    for forward in (lambda m, x: m.up(x), lambda m, x: m.grouped(x)):
        net = Layers(forward)
        c = Calls(quantised(net, X))
        assert c.constant("conv_transpose2d", 2)[1].shape == (6,)
        assert noise(net, c.bundle) > 30


def test_a_filter_that_is_nothing_beside_its_bias_becomes_zero() -> None:
    net = Layers(lambda m, x: m.conv(x))
    with torch.no_grad():
        net.conv.weight[2] = 1e-31
        net.conv.weight[3] = 1e-9
        net.conv.bias[2:4] = torch.tensor([0.75, 0.0])
    c = Calls(quantised(net, X))
    weight, _ = c.constant("conv2d", 1)
    assert not weight[2].any() and weight[3].any()
    outputs = c.bundle.vectors.outputs["conv2d"]
    step, _ = c.scale_of("conv2d") or (0, 0)
    np.testing.assert_allclose(outputs[:, 0, 2], 0.75, atol=step)


def test_what_is_always_zero_has_a_scale() -> None:
    c = calls(lambda m, x: m.conv(x) + 0 * x.mean())
    assert all(0 < s < 1 for s in scales(c.bundle))
    c = calls(lambda m, x: m.last(torch.relu(m.conv(x) - 1e5)))
    assert (c.scale_of("relu") or (0, 0))[0] == 1 / 128


def test_modules_stay_in_float() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
            self.tail = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.tail(self.head(x))  # type: ignore[no-any-return]

    every = Calls(quantised(Net(), X))
    assert every.count("dequantize_per_channel") == 6
    some = Calls(quantised(Net(), X, keep_float=["head.2"]))
    assert some.count("dequantize_per_channel") == 4
    assert some.bundle.tensors["head.2.weight"].dtype == np.float32
    tail = Calls(quantised(Net(), X, keep_float=["head"]))
    assert tail.count("dequantize_per_channel") == 2
    assert tail.scale_of("x") is None


def test_the_same_model_and_samples_give_the_same_bytes() -> None:
    first, second = (quantised(Layers(lambda m, x: m.last(m.conv(x))), X) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


def test_test_vectors_are_samples() -> None:
    bundle = quantised(Layers(lambda m, x: m.conv(x)), X, vectors=3)
    for vector, k in zip(bundle.vectors.inputs["x"], (0, 12, 23), strict=True):
        np.testing.assert_array_equal(vector, samples(X)[k])
    many = quantised(Layers(lambda m, x: m.conv(x)), X, vectors=30)
    assert many.vectors.count == 30
