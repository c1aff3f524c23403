# SPDX-License-Identifier: Apache-2.0
"""What of a quantised model cannot be integer stays right, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from emx.api import generate
from emx.bundle import Bundle, Ref
from emx.errors import EmxError
from emx.interpret import outputs
from emx.ir import DType
from emx.load import load
from emx.ops.conv2d_s8 import Conv2dS8
from emx.options import Options
from emx.quant import Quant
from emx.target import find_target
from emx.twin import dequantised, quantised
from quant_models import S8, U8, Model, ops, optimised
from sampled import DECOMPOSED

Q16 = Quant(1e-3, 0, DType.S16, -(1 << 15), (1 << 15) - 1)
Build = Callable[[Model], Ref]


def conv(m: Model, x: Ref, w: Ref | None = None) -> Ref:
    w = w or m.w(6, 4, 3, 3)
    known = m.values.get(w.name) or [m.tensors[w.name]]
    return m.op("conv2d.default", x, w, m.b(len(known[0])))


def asymmetric(m: Model) -> Ref:
    data = m.random.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8)
    q = m.dequantised(m.tensor("weight", data), Quant(0.01, 7, U8, 0, 255))
    return m.q(conv(m, m.x(1, 4, 5, 5), q), 0.1)


def read_as_floats_too(m: Model) -> Ref:
    y = m.relu(conv(m, m.x(1, 4, 5, 5)))
    return m.q(m.op("add.Tensor", m.op("gelu.default", y), m.q(y, 0.1)), 0.1)


STAYS: dict[str, tuple[Build, list[str]]] = {
    "weights of floats": (
        lambda m: m.q(conv(m, m.x(1, 4, 5, 5), m.b(6, 4, 3, 3)), 0.1),
        ["its weights are not quantised"],
    ),
    "weights with a zero point": (
        asymmetric, ["its weights do not fit int8 without their zero point"]
    ),
    "an input that is not quantised": (
        lambda m: m.q(conv(m, m.op("exp.default", m.x(1, 4, 5, 5))), 0.1),
        ["its result is not quantised", "its input is not quantised"],
    ),
    "read as floats too": (
        read_as_floats_too,
        ["its result is also read as it is before it is quantised", "its input is not quantised",
         "its input is not quantised"],
    ),
    "no int8 form": (
        lambda m: m.q(m.op("cumsum.default", m.x(3, 5), 1), 0.1),
        ["emx has no int8 form of scan"],
    ),
    "int16": (
        lambda m: m.q(conv(m, m.dequantised(m.quantised("q", m.x(1, 4, 5, 5), Q16), Q16)), 0.1),
        ["its input is quantised to s16"],
    ),
    "a step too fine": (
        lambda m: m.q(conv(m, m.x(1, 4, 5, 5)), 1e-14),
        ["a result in steps of 1e-14 is too fine for its weights"],
    ),
}  # fmt: skip


def close(bundle: Bundle, **options: object) -> None:
    graph = optimised(bundle, **options)
    for i in range(bundle.vectors.count):
        given = [quantised(graph, v, bundle.vectors.inputs[v.name][i]) for v in graph.inputs]
        for name, v, y in zip(
            graph.output_names, graph.outputs, outputs(graph, given), strict=True
        ):
            want = bundle.vectors.outputs[name][i]
            q = graph.quants.get(v.name)
            atol = 2.1 * q.scale if q else 0.02 * float(np.abs(want).max())
            np.testing.assert_allclose(dequantised(q, y), want, rtol=0, atol=atol)


@pytest.mark.parametrize("case", STAYS)
def test_what_cannot_be_integer_stays_and_says_why(case: str) -> None:
    build, reasons = STAYS[case]
    m = Model()
    bundle = m.made(build(m))
    layers = optimised(bundle).float_layers
    assert [f.reason for f in layers] == reasons
    assert all(f.inside and f.hint and f.origin.source == "net.py:1" for f in layers)
    close(bundle)


def test_strict_names_them_all() -> None:
    m = Model()
    a = STAYS["weights of floats"][0](m)
    b = STAYS["no int8 form"][0](m)
    bundle = m.made(a, b)
    with pytest.raises(EmxError, match="2 layers of this quantised model stay in float") as error:
        optimised(bundle, strict=True)
    for part in ("its weights are not quantised", "no int8 form of scan", "net.py:1", "hint"):
        assert part in str(error.value)
    manifest = generate(bundle, find_target("generic"), Options()).manifest
    assert [f["reason"] for f in manifest["float_layers"]] == [
        "its weights are not quantised", "emx has no int8 form of scan",
    ]  # fmt: skip


def test_strict_leaves_what_is_outside() -> None:
    """A softmax that the quantizer left at the end; a model that is not quantised."""
    m = Model()
    y = m.op("softmax.int", m.q(conv(m, m.x(1, 4, 5, 5)), 0.1), 1)
    (layer,) = optimised(m.made(y), strict=True).float_layers
    assert layer.reason == "its result is not quantised" and not layer.inside
    m = Model()
    assert not optimised(m.made(m.relu(m.floats(3))), strict=True).float_layers


def test_a_model_partly_quantised() -> None:
    """Each part as it can be; between them floats are quantised, or integers dequantised."""
    m = Model()
    x = m.op("silu.default", conv(m, m.floats(1, 4, 9, 9), m.b(4, 4, 3, 3)))
    y = m.q(m.relu(conv(m, m.q(x, 0.02, 3))), 0.05, -128)
    y = m.q(m.op("tanh.default", conv(m, y, m.b(6, 6, 3, 3))), 1 / 128)
    bundle = m.made(m.q(conv(m, y, m.w(6, 6, 1, 1)), 0.1))
    close(bundle)
    graph = optimised(bundle)
    assert len(ops(graph, Conv2dS8)) == 2
    assert [f.inside for f in graph.float_layers] == [False, False, True, True]


def test_sums_that_might_overflow() -> None:
    m = Model()
    w = m.dequantised(m.tensor("weight", np.full((2, 1 << 17), 127, np.int8)), Quant(1e-5))
    x = m.op("expand.default", m.x(1, 1), [1, 1 << 17])
    bundle = m.made(m.q(m.op("linear.default", x, w, m.b(2)), 0.5))
    with pytest.raises(EmxError, match="a sum of 131072 products may overflow 32 bits") as error:
        generate(bundle, find_target("generic"), Options())
    assert "keep this layer in float" in str(error.value) and "net.py:1" in str(error.value)


SCALES = {"zero": 0.0, "infinite": float("inf"), "not a number": float("nan"), "negative": -0.1,
          "tiny": 1e-42}  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("where", ["quantise", "dequantise", "channels"])
def test_scales_that_are_none(where: str, scale: str) -> None:
    m = Model()
    x = m.x(1, 4, 5, 5)
    bundle = m.made(m.q(conv(m, x), 0.1))
    nodes, tensors = list(bundle.nodes), dict(bundle.tensors)
    if where == "channels":
        tensors["w1_scales"] = np.array([0.1] * 5 + [SCALES[scale]], np.float32)
    else:
        at = 0 if where == "dequantise" else len(nodes) - 2
        args = (nodes[at].args[0], SCALES[scale], *nodes[at].args[2:])
        nodes[at] = replace(nodes[at], args=args)
    with pytest.raises(EmxError, match="is no scale of a quantised tensor") as error:
        load(replace(bundle, nodes=tuple(nodes), tensors=tensors))
    assert "calibrate again" in str(error.value) and "net.py:1" in str(error.value)


def test_inputs_and_outputs_are_the_integers() -> None:
    """Or floats, where that is asked for; an input that is read in two ways stays float."""
    m = Model()
    x = m.floats(1, 4, 5, 5)
    q = m.q(x, 0.01, 5)
    bundle = m.made(m.q(conv(m, q), 0.1, 9), q)
    graph = optimised(bundle)
    assert graph.quants[graph.inputs[0].name] == Quant(0.01, 5)
    assert graph.inputs[0].type.dtype is S8
    assert [graph.quants[v.name].zero for v in graph.outputs] == [9, 5]
    graph = optimised(bundle, io="float")
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == [DType.F32] * 3
    assert not graph.quants
    m = Model()
    x = m.floats(1, 4, 5, 5)
    both = m.made(m.q(conv(m, m.q(x, 0.01, 5)), 0.1), m.relu(x))
    graph = optimised(both)
    assert graph.inputs[0].type.dtype is DType.F32 and list(graph.quants) == [graph.outputs[0].name]


def test_run_time_arguments_that_are_refused() -> None:
    m = Model()
    call = f"{DECOMPOSED}.quantize_per_tensor.default"
    wide = m.add("q", call, (m.floats(3), 0.1, 0, -9, 9, DType.S32))[0]
    with pytest.raises(EmxError, match="quantising to s32 is not supported"):
        load(m.made(wide))
    m = Model()
    scales, zeros = m.tensor("s", np.ones(3, np.float32)), m.tensor("z", np.zeros(3, np.int64))
    call = f"{DECOMPOSED}.dequantize_per_channel.default"
    x = m.input("x", np.zeros((2, 3), np.int8))
    y = m.add("dq", call, (x, scales, zeros, 0, -128, 127, S8))[0]
    with pytest.raises(EmxError, match="what is dequantised by channels is computed at run time"):
        load(m.made(y))
