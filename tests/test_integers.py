# SPDX-License-Identifier: Apache-2.0
"""What lies between dequantise and quantise becomes integer: each rule on a small model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from emx.bundle import Bundle, Ref
from emx.interpret import outputs
from emx.ir import DType
from emx.ops.binary_s8 import BinaryS8
from emx.ops.concat import Concat
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.conv3d_s8 import Conv3dS8
from emx.ops.linear_s8 import LinearS8
from emx.ops.movement import Pad
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.table_s8 import TableS8
from emx.options import Options
from emx.quant import Quant
from many import SANITIZE, run_together
from quant_models import S8, U8, Model, all_integer, ops
from sampled import DECOMPOSED


def conv(m: Model, x: Ref, w: Ref, *rest: object) -> Ref:
    bias = m.b(len(m.values[w.name][0]) if w.name in m.values else len(m.tensors[w.name]))
    return m.op("conv2d.default", x, w, bias, *rest)


def per_tensor(m: Model, dtype: DType, zero: int) -> Ref:
    q = Quant(0.01, zero, dtype, *((0, 255) if dtype is U8 else (-128, 127)))
    data = m.random.integers(q.lo, q.hi, (6, 4, 3, 3), endpoint=True).astype(dtype.numpy)
    return m.dequantised(m.tensor("weight", data), q)


def on_grid(m: Model, steps: int) -> Ref:
    """A float parameter whose rows are whole multiples of their largest element / `steps`."""
    data = m.random.integers(-steps, steps, (6, 4, 3, 3))
    data[:, 0, 0, 0] = -steps
    scale = m.random.uniform(0.001, 0.02, (6, 1, 1, 1))
    return m.tensor("weight", (data * scale).astype(np.float32))


def quantised_here(m: Model) -> Ref:
    """Quantised by the model itself, as after training that knew of it."""
    weight = m.tensor("weight", m.random.uniform(-1, 1, (6, 4, 3, 3)).astype(np.float32))
    scales = m.tensor("scales", m.random.uniform(0.008, 0.01, 6).astype(np.float32))
    zeros = m.tensor("zeros", np.zeros(6, np.int32))
    rest = (scales, zeros, 0, -127, 127, S8)
    q = m.add("wq", f"{DECOMPOSED}.quantize_per_channel.default", (weight, *rest))[0]
    return m.add("wdq", f"{DECOMPOSED}.dequantize_per_channel.default", (q, *rest))[0]


WEIGHTS: dict[str, Callable[[Model], Ref]] = {
    "per channel": lambda m: m.w(6, 4, 3, 3),
    "per tensor": lambda m: per_tensor(m, S8, 0),
    "uint8": lambda m: per_tensor(m, U8, 128),
    "quantised in the model": quantised_here,
    "floats in 127 steps": lambda m: on_grid(m, 127),
    "floats in 128 steps": lambda m: on_grid(m, 128),
    "floats in 91 steps": lambda m: on_grid(m, 91),
}


def of_weights(form: str, dtype: DType, zero: int) -> Bundle:
    m = Model()
    y = conv(m, m.x(1, 4, 7, 8, zero=zero, dtype=dtype), WEIGHTS[form](m), [1, 1], [1, 1])
    return m.made(m.q(m.relu(y), 0.08, zero, dtype))


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize(("dtype", "zero"), [(S8, -128), (S8, 17), (U8, 0), (U8, 131)])
def test_weights_and_activations_in_all_forms(form: str, dtype: DType, zero: int) -> None:
    (layer,) = ops(all_integer(of_weights(form, dtype, zero)), Conv2dS8)
    assert isinstance(layer, Conv2dS8)
    assert layer.x.zero == (zero if dtype is S8 else zero - 128)


LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, tuple[object, ...]]] = {
    "conv1d": ((1, 4, 9), (6, 4, 3), 0, ([2], [1])),
    "conv2d": ((1, 4, 9, 8), (6, 2, 3, 3), 0, ([1, 1], [2, 2], [2, 2], 2)),
    "conv3d": ((1, 2, 4, 5, 5), (3, 2, 3, 3, 3), 0, ([1, 1, 1], [1, 1, 1])),
    "conv_transpose1d": ((1, 4, 5), (4, 3, 4), 1, ([2], [1])),
    "conv_transpose2d": ((1, 4, 5, 4), (4, 3, 3, 3), 1, ([2, 2], [1, 1], [1, 1])),
    "linear": ((3, 16), (5, 16), 0, ()),
}


def of_layer(layer: str) -> Bundle:
    m = Model()
    shape, weights, axis, rest = LAYERS[layer]
    overload = "input" if layer == "conv_transpose2d" else "default"
    w = m.w(*weights, axis=axis)
    y = m.op(f"{layer}.{overload}", m.x(*shape), w, m.b(weights[axis]), *rest)
    return m.made(m.q(y, 0.1, -9))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer: str) -> None:
    assert ops(all_integer(of_layer(layer)), Conv2dS8, Conv3dS8, LinearS8)


def test_biases_of_int32_stay_as_they_are() -> None:
    m = Model()
    x, w = m.x(1, 4, 6, 6, scale=0.03), m.w(6, 4, 3, 3)
    units = m.tensor("bias", m.random.integers(-(1 << 20), 1 << 20, 6, dtype=np.int32))
    scales = m.tensor("scales", m.tensors["w1_scales"] * np.float32(0.03))
    zeros = m.tensor("zeros", np.zeros(6, np.int64))
    rest = (scales, zeros, 0, -(1 << 31), (1 << 31) - 1, DType.S32)
    bias = m.add("bdq", f"{DECOMPOSED}.dequantize_per_channel.default", (units, *rest))[0]
    graph = all_integer(m.made(m.q(m.op("conv2d.default", x, w, bias), 2.5)))
    assert any(np.array_equal(c, m.tensors["bias"]) for c in graph.constants.values())


CLAMPS: dict[str, Callable[[Model, Ref], Ref]] = {
    "relu": lambda m, x: m.relu(x),
    "relu6": lambda m, x: m.op("relu6.default", x),
    "hardtanh": lambda m, x: m.op("hardtanh.default", x, -1.3, 2.6),
    "list": lambda m, x: m.op("clamp.default", m.op("relu6.default", m.relu(x)), 0.7, inf),
    "one side": lambda m, x: m.op("clamp.default", x, None, 1.2345),
}


def of_clamp(clamp: str, layer: str) -> Bundle:
    m = Model()
    x = m.x(1, 4, 8, 8, scale=0.1)
    y = {
        "conv": lambda: conv(m, x, m.w(6, 4, 3, 3)),
        "add": lambda: m.op("add.Tensor", x, m.x(1, 4, 8, 8)),
        "pool": lambda: m.op("avg_pool2d.default", x, [2, 2]),
        "alone": lambda: x,
        "maximum": lambda: m.op("max_pool2d.default", x, [2, 2], [2, 2]),
    }[layer]()
    return m.made(m.q(CLAMPS[clamp](m, y), 0.033, -5))


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("layer", ["conv", "add", "pool", "alone", "maximum"])
def test_clamps_become_bounds(clamp: str, layer: str) -> None:
    """Of whatever computes; the bounds themselves are what PyTorch rounds them to."""
    tables = ops(all_integer(of_clamp(clamp, layer)), TableS8)
    assert len(tables) == (layer in ("alone", "maximum"))


MOVES: dict[str, Callable[[Model, Ref], Ref]] = {
    "pad": lambda m, x: m.op("constant_pad_nd.default", x, [1, 2, 0, 1], 0.0),
    "pad with a step": lambda m, x: m.op("constant_pad_nd.default", x, [1, 2], 0.5),
    "permute": lambda m, x: m.op("permute.default", x, [0, 2, 3, 1]),
    "reshape": lambda m, x: m.op("reshape.default", x, [1, 2, 2, -1]),
    "slice": lambda m, x: m.op("slice.Tensor", x, 2, 1, 5, 2),
    "flip": lambda m, x: m.op("flip.default", x, [3]),
    "expand": lambda m, x: m.op("expand.default", m.op("slice.Tensor", x, 0, 0, 1), [3, 4, 6, 6]),
    "gather": lambda m, x: m.op(
        "index_select.default", x, 1, m.tensor("index", np.array([2, 0, 2]))
    ),
    "nearest": lambda m, x: m.op("upsample_nearest2d.default", x, [9, 7]),
    "twice as wide": lambda m, x: m.op("upsample_nearest2d.default", x, [6, 12]),
    "max pool": lambda m, x: m.op("max_pool2d.default", x, [3, 3], [2, 2], [1, 1]),
    "amax": lambda m, x: m.op("amax.default", x, [1]),
    "windows": lambda m, x: m.op("im2col.default", x, [2, 2], [1, 1], [0, 0], [2, 2]),
    "shuffle": lambda m, x: m.op("pixel_shuffle.default", x, 2),
    "of more": lambda m, x: m.op("maximum.default", x, m.op("flip.default", x, [2])),
}


def of_move(move: str, where: str) -> Bundle:
    m = Model()
    x = m.x(1, 4, 6, 6, scale=0.25)
    if where != "before":
        x = m.q(m.op("mul.Tensor", x, x), 0.5, 4)
    y = MOVES[move](m, x)
    if where != "behind":
        y = m.q(m.op("gelu.default", y), 0.125, -3)
    return m.made(y)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("where", ["before", "behind", "around"])
def test_what_moves_data_moves_integers(move: str, where: str) -> None:
    """Also where no quantizer knew it: before a quantise, behind a dequantise, or both."""
    tables = ops(all_integer(of_move(move, where)), TableS8)
    assert 1 <= len(tables) <= 1 + (where == "around")


def test_joined_parts_of_other_scales_are_tables() -> None:
    m = Model()
    a, b, c = (m.x(1, 2, 3, scale=s) for s in (0.1, 0.1, 0.07))
    graph = all_integer(m.made(m.q(m.op("cat.default", (a, b, c), 1), 0.1, 3)))
    assert len(ops(graph, TableS8)) == 1 and len(ops(graph, Concat)) == 1


def test_embeddings_are_quantised_tables() -> None:
    m = Model()
    index = m.input("index", m.random.integers(0, 9, (2, 5)))
    rows = m.q(m.op("embedding.default", m.b(9, 6), index), 1 / 128)
    graph = all_integer(m.made(m.q(m.op("linear.default", rows, m.w(4, 6), m.b(4)), 0.05)))
    assert not ops(graph, TableS8)


def test_padding_with_the_zero_point_is_the_window() -> None:
    """As quantizers leave it that do not know padding."""
    for before in (True, False):
        m = Model()
        x = m.floats(1, 3, 7, 7)
        x = m.op("constant_pad_nd.default", x if before else m.q(x, 0.01, 21), [0, 1, 0, 1], 0.0)
        x = m.q(x, 0.01, 21) if before else x
        graph = all_integer(m.made(m.q(conv(m, x, m.w(5, 3, 3, 3), [2, 2]), 0.04)))
        (layer,) = ops(graph, Conv2dS8)
        assert isinstance(layer, Conv2dS8) and layer.window.pad == (0, 1, 0, 1)
        assert not ops(graph, Pad)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", ["add", "sub"])
def test_a_sum_is_the_end_of_the_convolution_before_it(kind: str, first: bool) -> None:
    m = Model()
    image = m.x(1, 3, 5, 5)
    x, y = (m.q(conv(m, image, m.w(6, 3, 1, 1)), s, 11) for s in (0.05, 0.07))
    both = (y, x) if first else (x, y)
    graph = all_integer(m.made(m.q(m.relu(m.op(f"{kind}.Tensor", *both)), 0.09, -128)))
    assert not ops(graph, BinaryS8)
    layers = [op for op in ops(graph, Conv2dS8) if isinstance(op, Conv2dS8)]
    assert [op.add is not None for op in layers] == [False, True]


@pytest.mark.parametrize("layer", ["conv", "linear"])
def test_a_sum_without_quantisation_between(layer: str) -> None:
    """As X86InductorQuantizer fuses them: one rounding of the whole."""
    m = Model()
    if layer == "conv":
        x = m.x(1, 6, 5, 5)
        y, before = (conv(m, x, m.w(6, 6, 3, 3), [1, 1], [1, 1]) for _ in range(2))
    else:
        x = m.x(3, 16)
        y, before = (m.op("linear.default", x, m.w(16, 16), m.b(16)) for _ in range(2))
    skip = m.q(before, 0.02, -7)
    graph = all_integer(m.made(m.q(m.relu(m.op("add.Tensor", skip, y)), 0.1, -128)))
    layers = [op for op in ops(graph, Conv2dS8) if isinstance(op, Conv2dS8)]
    assert [op.direct is not None for op in layers] == [*[False] * (layer == "conv"), True]


FUNCTIONS: dict[str, Callable[[Model, Ref], Ref]] = {
    "sigmoid": lambda m, x: m.op("sigmoid.default", x),
    "swish": lambda m, x: m.op("mul.Tensor", x, m.op("sigmoid.default", x)),
    "hardswish": lambda m, x: m.op(
        "div.Tensor",
        m.op("mul.Tensor", x, m.op("clamp.default", m.op("add.Tensor", x, 3), 0, 6)),
        6,
    ),
    "leaky": lambda m, x: m.op("leaky_relu.default", x, 0.1),
    "where": lambda m, x: m.op("where.self", m.op("gt.Scalar", x, 0.5), x, m.op("neg.default", x)),
    "constants": lambda m, x: m.op("pow.Tensor_Scalar", m.op("add.Tensor", x, m.b(1)), 2),
    "infinities": lambda m, x: m.op("log.default", m.relu(x)),
    "scaled": lambda m, x: m.op("mul.Tensor", x, -0.5),
}


def of_call(call: Callable[[Model], Ref]) -> Bundle:
    m = Model()
    return m.made(m.q(call(m), 1 / 32, -20))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_one_value_are_a_table(function: str) -> None:
    bundle = of_call(lambda m: FUNCTIONS[function](m, m.x(3, 700)))
    assert [n.op.name for n in all_integer(bundle).nodes] == ["table_s8"]


CALLS: dict[str, Callable[[Model], Ref]] = {
    "softmax": lambda m: m.op("softmax.int", m.x(3, 9, scale=0.2), -1),
    "layer_norm": lambda m: m.op("layer_norm.default", m.x(3, 16), [16], m.b(16), m.b(16)),
    "rms_norm": lambda m: m.op("rms_norm.default", m.x(3, 16), [16], m.b(16)),
    "matmul": lambda m: m.op("matmul.default", m.x(2, 3, 8), m.x(2, 8, 4, zero=-9)),
    "mul": lambda m: m.op("mul.Tensor", m.x(3, 4), m.x(1, 4, zero=100)),
    "avg_pool2d": lambda m: m.op(
        "avg_pool2d.default", m.x(1, 3, 5, 5), [3, 3], [2, 2], [1, 1], False, False
    ),
    "mean": lambda m: m.op("mean.dim", m.x(2, 5, 8), [1], True),
    "sum": lambda m: m.op("sum.dim_IntList", m.x(2, 5, 8), [0, 2]),
    "scaled scores": lambda m: m.op(
        "div.Tensor", m.op("matmul.default", m.x(2, 3, 8), m.x(2, 8, 4, zero=-9)), 2.0
    ),
    "scaled operands": lambda m: m.op(
        "add.Tensor", m.op("mul.Tensor", m.x(3, 8), 0.7), m.op("div.Tensor", m.x(3, 8), 3.0)
    ),
    "alpha": lambda m: m.add("add", "aten.add.Tensor", (m.x(4), m.x(4)), {"alpha": 0.25})[0],
    "a parameter": lambda m: m.op("add.Tensor", m.x(3, 8), m.q(m.b(3, 8), 0.01, 100)),
    "batch_norm": lambda m: m.op(
        "batch_norm.default",
        m.x(2, 6, 4),
        m.b(6),
        m.b(6),
        m.b(6),
        m.b(6, low=1.0),
        False,
        0.1,
        1e-5,
        False,
    ),
    "each channel": lambda m: m.op(
        "sub.Tensor", m.b(8), m.op("div.Tensor", m.op("mul.Tensor", m.x(3, 8), m.b(8)), m.b(1))
    ),
    "amin": lambda m: m.op("amin.default", m.x(2, 5, 8), [1]),
}


@pytest.mark.parametrize("call", CALLS)
def test_other_operators(call: str) -> None:
    all_integer(of_call(CALLS[call]))


def test_a_value_of_several_readers() -> None:
    """Quantised twice alike it is one layer, in two ways it is two; read as integers by all."""
    m = Model()
    y = m.relu(conv(m, m.x(1, 4, 6, 6), m.w(6, 4, 3, 3)))
    same, again, other = (m.q(y, s, -128) for s in (0.1, 0.1, 0.07))
    total = m.q(m.op("add.Tensor", same, m.op("neg.default", again)), 0.1)
    graph = all_integer(m.made(total, other, same))
    assert len(ops(graph, Conv2dS8)) == 2


def test_filters_that_vanish() -> None:
    """Below 2^-24 a filter is zero, and the layer gives its bias; so do filters of zeros."""
    m = Model()
    data = m.random.uniform(-1, 1, (5, 4, 3, 3))
    data[1], data[2], data[3] = 0, data[2] * 1e-9, data[3] * 3e-7
    w = m.by_channels("w", np.maximum(data, -1).astype(np.float32), 0, Quant(1.0, lo=-127))
    bias = m.tensor("bias", np.array([0.5, -0.31, 0.77, 9.9, 1e6], np.float32))
    y = m.q(m.op("conv2d.default", m.x(1, 4, 5, 5), w, bias), 0.1)
    graph = all_integer(m.made(y), slim=False)
    w8 = next(c for n, c in graph.constants.items() if c.dtype == np.int8 and c.ndim == 4)
    assert [bool(f.any()) for f in w8] == [True, False, False, True, True]


def test_small_multipliers_of_many_products_do_not_vanish() -> None:
    """2^-25 times a sum of 2^16 products of 127 and 100 is 24 steps."""
    m = Model()
    w = m.dequantised(m.tensor("w", np.full((3, 1 << 16), 127, np.int8)), Quant(1.0))
    x = m.op("expand.default", m.x(1, 1, scale=1.0), [1, 1 << 16])
    graph = all_integer(m.made(m.q(m.op("linear.default", x, w, m.b(3)), 2.0**25)))
    (y,) = outputs(graph, [np.array([[103]], np.int8)])
    assert np.unique(y).tolist() == [round(127 * 100 * (1 << 16) / 2**25)]


def test_the_model_may_have_uint8_itself() -> None:
    """Inputs and outputs that are uint8 in the model stay so."""
    m = Model()
    y = conv(m, m.x(1, 4, 5, 5, zero=128, dtype=U8), m.w(6, 4, 3, 3))
    q = m.quantised("last", y, Quant(0.1, 100, U8, 0, 255))
    bundle = m.bundle("model", (q,))
    graph = all_integer(bundle)
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == [U8, U8]
    got = outputs(graph, [x[0] for x in bundle.vectors.inputs.values()])[0]
    want = bundle.vectors.outputs["y"][0]
    assert np.abs(got.astype(int) - want).max() <= 1


def test_a_reduced_range_is_kept() -> None:
    """0 ... 127 of uint8, as for processors that add pairs of products in 16 bits."""
    m = Model()
    q = Quant(0.05, 0, U8, 0, 127)
    y = m.quantised("q", m.relu(conv(m, m.integers("x", (1, 4, 5, 5), q), m.w(6, 4, 3, 3))), q)
    (layer,) = ops(all_integer(m.made(m.dequantised(y, q))), Conv2dS8)
    assert isinstance(layer, Conv2dS8) and (layer.lo, layer.hi) == (-128, -1)


def test_pooling_is_of_integers() -> None:
    m = Model()
    y = m.relu(m.op("max_pool2d.default", conv(m, m.x(1, 4, 8, 8), m.w(6, 4, 3, 3)), [2, 2]))
    graph = all_integer(m.made(m.q(y, 0.05, -128)))
    assert ops(graph, Pool2dS8) and not ops(graph, TableS8)


@pytest.mark.slow
def test_host_under_sanitizers(tmp_path: Path) -> None:
    """The C of all these, byte for byte that of the twin."""
    bundles = [
        *(of_weights(form, U8, 131) for form in WEIGHTS),
        *(of_layer(layer) for layer in LAYERS),
        *(of_clamp(clamp, layer) for clamp in CLAMPS for layer in ("conv", "add", "pool", "alone")),
        *(of_move(move, "around") for move in MOVES),
        *(of_call(call) for call in CALLS.values()),
    ]
    named = [replace(b, name=f"m{i}") for i, b in enumerate(bundles)]
    run_together(named, tmp_path, "host", SANITIZE, Options(test=True, taps=True))
