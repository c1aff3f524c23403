# SPDX-License-Identifier: Apache-2.0
"""Models quantised to other than int8 throughout: weights of 4 bits, by group of inputs; images of
16; weights alone. What the C computes is the twin, and PyTorch's within a step."""

from __future__ import annotations

import numpy as np
import pytest

from emx import passes
from emx.api import generate, verify
from emx.bundle import Arg, Bundle, Ref
from emx.ir import DType, Graph
from emx.load import load
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.options import Options
from emx.quant import Quant
from emx.target import find_target
from sampled import DECOMPOSED, Calls, numbers

S16 = Quant(1 / 8192, 0, DType.S16, -32768, 32767)


class Model(Calls):
    """Layers between dequantise and quantise."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(np.random.default_rng(seed))

    def x(self, *shape: int, q: Quant | None = None) -> Ref:
        """An input of all integers, dequantised; or of floats."""
        if q is None:
            return self.input("x", self.random.normal(0, 1, (2, *shape)).astype(np.float32))
        data = self.random.integers(q.lo, q.hi, (2, *shape), endpoint=True)
        return self.dequantised(self.input("x", data.astype(q.dtype.numpy)), q)

    def weights(self, *shape: int, hi: int, group: int = 0) -> Ref:
        """From -hi-1 to hi, with a scale for each output, or for each `group` of its inputs."""
        name = f"w{len(self.tensors)}"
        data = self.random.integers(-hi - 1, hi + 1, shape).astype(np.int8)
        count = data.size // group if group else shape[0]
        scales = self.random.uniform(0.5, 1.5, count) * 2 / (hi * data[0].size ** 0.5)
        w, s = self.tensor(name, data), self.tensor(f"{name}_scales", scales.astype(np.float32))
        z = self.tensor(f"{name}_zeros", np.zeros(count, np.int64 if not group else np.int32))
        kind = (-hi - 1, hi, DType.S8)
        call = f"{DECOMPOSED}.dequantize_per_channel"
        if group:
            return self.add(
                f"{name}_dq", f"{call}_group.default", (w, s, z, *kind, group, DType.F32)
            )[0]
        return self.add(f"{name}_dq", f"{call}.default", (w, s, z, 0, *kind))[0]

    def bias(self, n: int) -> Ref:
        return self.tensor(f"b{len(self.tensors)}", self.random.normal(0, 1, n).astype(np.float32))

    def both(self, x: Ref, q: Quant) -> Ref:
        """Quantised and dequantised."""
        call = f"{DECOMPOSED}.quantize_per_tensor.default"
        (y,) = self.add(f"q{len(self.nodes)}", call, (x, *numbers(q)))
        return self.dequantised(y, q)

    def call(self, name: str, *arguments: Arg) -> Ref:
        return self.add(f"call{len(self.nodes)}", f"aten.{name}", arguments)[0]

    def linear(self, x: Ref, out: int, inner: int, hi: int, group: int = 0) -> Ref:
        w = self.weights(out, inner, hi=hi, group=group)
        return self.call("linear.default", x, w, self.bias(out))

    def conv(self, x: Ref, *w: int, hi: int, groups: int = 1, pad: int = 1) -> Ref:
        layer = (x, self.weights(*w, hi=hi), self.bias(w[0]))
        return self.call("conv2d.default", *layer, (1, 1), (pad, pad), (1, 1), groups)


def wide(hi: int = 127) -> Bundle:
    """A depthwise-separable block of int16, a linear layer behind it."""
    m = Model()
    x = m.x(1, 6, 5, 4, q=S16)
    y = m.call("relu.default", m.conv(x, 6, 1, 3, 3, hi=hi, groups=6))
    y = m.both(y, S16)
    y = m.both(m.conv(y, 9, 6, 1, 1, hi=hi, pad=0), S16)
    y = m.call("reshape.default", y, (1, 180))
    return m.bundle("wide", (m.both(m.linear(y, 7, 180, hi), S16),))


def narrow(group: int = 0) -> Bundle:
    """The same of int8 with weights of 4 bits."""
    m = Model()
    x, q = m.x(1, 6, 5, 4, q=Quant(0.05, -7)), Quant(0.06, -100)
    y = m.call("relu.default", m.conv(x, 6, 1, 3, 3, hi=7, groups=6))
    y = m.both(m.conv(m.both(y, q), 9, 6, 3, 3, hi=7), q)
    y = m.call("reshape.default", y, (1, 180))
    return m.bundle("narrow", (m.both(m.linear(y, 7, 180, 7, group), Quant(0.05, 3)),))


def floats(hi: int, group: int = 0) -> Bundle:
    """The same of floats, with a residual."""
    m = Model()
    x = m.x(1, 6, 5, 4)
    y = m.call("relu.default", m.conv(x, 6, 1, 3, 3, hi=hi, groups=6))
    y = m.call("add.Tensor", m.conv(y, 6, 6, 3, 3, hi=hi), x)
    y = m.call("reshape.default", m.call("relu.default", y), (1, 120))
    y = m.linear(y, 16, 120, hi, group)
    return m.bundle("floats", (m.linear(m.call("tanh.default", y), 3, 16, hi, group // 3),))


def graph_of(bundle: Bundle) -> Graph:
    return passes.run(load(bundle), Options(), check=[x[0] for x in bundle.vectors.inputs.values()])


MODELS = {
    "int16x8": wide(), "int16x4": wide(7), "int4": narrow(), "int4 groups": narrow(12),
    "weights-int8": floats(127), "weights-int4": floats(7), "weights-int4 groups": floats(7, 24),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_all_layers_with_weights_keep_them_as_they_are(name: str) -> None:
    graph = graph_of(MODELS[name])
    layers = [n for n in graph.nodes if n.op.macs(n)]
    assert len(layers) >= 3 and all(isinstance(n.op, Conv2dMixed) for n in layers)
    weights = [graph.constants[n.inputs[1].name] for n in layers]
    assert all(w.dtype == np.int8 for w in weights)
    assert not graph.float_layers


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["host", "mps2-an386", "mps3-an547"])
@pytest.mark.parametrize("name", MODELS)
def test_c_is_pytorch(name: str, machine: str) -> None:
    report = verify(MODELS[name], target=machine, layers=True)
    assert report.ok, str(report)


def test_the_header_of_int16() -> None:
    """Integers of the right type; and the shape of the model, not of the kernel before it."""
    m = Model()
    x = m.both(m.x(3, 5), S16)
    header = generate(
        m.bundle("net", (m.both(m.linear(x, 7, 5, 127), S16),)), find_target("generic"), Options()
    ).files["net.h"]
    assert isinstance(header, bytes)
    text = header.decode()
    assert "#define NET_Y_SHAPE {3, 7}\n" in text
    assert "static inline int16_t net_quantize_x(float x)" in text
    assert "void net_run(const int16_t x[NET_X_LEN], int16_t y[NET_Y_LEN]);" in text


def test_picking_keeps_int16() -> None:
    """Maxima of int16 are int16, whether the operator reads integers or floats."""
    m = Model()
    x = m.x(1, 6, 5, 4, q=S16)
    pooled = m.both(m.call("max_pool2d.default", x, (2, 2)), S16)
    bundle = m.bundle("net", (pooled, m.both(m.call("amax.default", x, (1, 3)), S16)))
    assert DType.S8 not in {n.output.type.dtype for n in graph_of(bundle).nodes}
    report = verify(bundle, target="host")
    assert report.ok, str(report)
