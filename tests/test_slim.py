# SPDX-License-Identifier: Apache-2.0
"""Slimmed graphs: what is kept keeps every bit, what can go goes, and what may not stays."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from emx.add_s8 import AddS8
from emx.blob import Blob
from emx.interpret import interpret
from emx.ir import Array, DType, Graph, Node, Op, Slimmed, TensorType, Value, verify
from emx.ops.binary_s8 import BinaryS8
from emx.ops.concat import Concat
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.gather import Gather
from emx.ops.linear_s8 import LinearS8
from emx.ops.movement import Expand, Pad, Permute, Reshape, Slice
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.table_s8 import TableS8
from emx.options import Options
from emx.passes.slim import slim
from emx.passes.slim_channels import channels_of
from emx.passes.slim_layers import Layer
from emx.passes.slim_ranges import ranges
from emx.plan import plan
from emx.quant import Quant, multipliers
from emx.report import manifest
from emx.select import select
from emx.target import find_target
from emx.window import Window

UNIT = Quant(1.0)


@dataclass
class Net:
    """An integer graph, one node after the other."""

    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    @property
    def x(self) -> Value:
        return Value("x", TensorType(self.shape, DType.S8))

    def add(self, op: Op, *inputs: Value) -> Value:
        y = Value(f"v{len(self.nodes)}", op.infer(*(v.type for v in inputs)))
        self.nodes.append(Node(op, inputs, (y,)))
        return y

    def constant(self, data: Array) -> Value:
        name = f"c{len(self.constants)}"
        self.constants[name] = data
        return Value(name, TensorType(data.shape, DType.of(data.dtype)))

    def conv(
        self,
        x: Value,
        w: Array,
        b: Array | None = None,
        *,
        real: float = 1.0,
        window: Window | None = None,
        groups: int = 1,
        quants: tuple[Quant, Quant] = (UNIT, UNIT),
        skip: Value | None = None,
        channels_first: bool = False,
    ) -> Value:
        """Outputs are round(sums * real); add(skip) has the same scale."""
        weights = (w.astype(np.int8), np.zeros(len(w), np.int32) if b is None else b)
        values = [self.constant(a) for a in (*weights, *scales(real, len(w)))]
        y = quants[1]
        add = AddS8(y, UNIT, y, -128, 127) if skip else None
        window = window or Window((w.shape[2], w.shape[3]))
        op = Conv2dS8(window, groups, *quants, -128, 127, add, channels_first=channels_first)
        return self.add(op, x, *values, *([skip] if skip else []))

    def linear(self, x: Value, w: Array, b: Array, real: float = 1.0) -> Value:
        values = [self.constant(a) for a in (w, b, *scales(real, len(w)))]
        return self.add(LinearS8(UNIT, UNIT, -128, 127), x, *values)

    def graph(self, *outputs: Value) -> Graph:
        names = tuple(v.name for v in outputs)
        made = Graph("net", (self.x,), outputs, names, tuple(self.nodes), self.constants)
        verify(made)
        return made


def scales(real: float, count: int) -> tuple[Array, Array]:
    """m and c of as many outputs."""
    return multipliers(np.full(count, real)), np.zeros(count, np.int32)


def inputs_of(graph: Graph, seed: int, count: int) -> list[Array]:
    """Random ones, noise at the ends of the range, and the ends themselves."""
    rng, dims = np.random.default_rng(seed), graph.inputs[0].type.dims
    some = [rng.integers(-128, 128, dims) for _ in range(count)]
    ends = [rng.choice([-128, 127], dims) for _ in range(count)]
    return [a.astype(np.int8) for a in (*some, *ends, np.full(dims, -128), np.full(dims, 127))]


def assert_same(graph: Graph, small: Graph, inputs: list[Array]) -> None:
    """Every output, and every needed channel of every value."""
    verify(small)
    found = ranges(graph)
    layers = [Layer.of(n, graph.constants, found) for n in graph.nodes]
    named = {layer.node.output.name: layer for layer in layers if layer}
    channels = channels_of(graph, named)
    for x in inputs:
        want, got = interpret(graph, [x]), interpret(small, [x])
        for v in graph.outputs:
            np.testing.assert_array_equal(want[v.name], got[v.name])
        for v in (n.output for n in small.nodes):
            assert (found[v.name].lo <= want[v.name]).all()
            assert (found[v.name].hi >= want[v.name]).all()
            c = channels[v.name]
            np.testing.assert_array_equal(
                want[v.name][..., c.needed], got[v.name][..., c.needed[c.kept]], str(v)
            )


def extents(graph: Graph) -> list[int]:
    """Output channels of the convolutions and linear layers."""
    return [n.output.type.dims[-1] for n in graph.nodes if isinstance(n.op, Conv2dS8 | LinearS8)]


def filters(out: int, *dims: int, seed: int = 0) -> Array:
    """Random weights, none of them zero."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], (out, *dims))
    return np.asarray(rng.integers(1, 128, (out, *dims)) * signs, np.int8)


def biases(*values: int) -> Array:
    return np.array(values, np.int32)


class RandomNet:
    """Layers of all kinds with planted channels: filters of zeros, sums beyond the clamp, weights
    that do not read."""

    def __init__(self, seed: int) -> None:
        self.pick, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.first = self.pick.random() < 0.2
        n, h, w, c = (self.pick.choice(e) for e in ((1, 1, 2), (3, 5, 6), (4, 5), (2, 4, 5)))
        self.net = Net((n, c, h, w) if self.first else (n, h, w, c))
        self.images = [self.layer(self.net.x)]

    def graph(self) -> Graph:
        steps = (self.layer, self.layer, self.layer, self.pooled, self.joined, self.moved, self.two)
        for _ in range(self.pick.randint(2, 7)):
            self.images.append(self.pick.choice(steps)(self.images[-1]))
        y = self.images[-1]
        n, *rest = y.type.dims
        if self.pick.random() < 0.6:
            flat = self.net.add(Reshape((n, int(np.prod(rest)))), y)
            y = self.net.linear(flat, *self.planted(6, flat.type.dims[-1]))
        return self.net.graph(y, *self.pick.sample(self.images, self.pick.choice((0, 0, 1))))

    def planted(self, out: int, *dims: int) -> tuple[Array, Array, float]:
        """w, b and the multiplier."""
        w = self.rng.integers(-127, 128, (out, *dims))
        w[self.rng.random(out) < 0.3] = 0
        if dims[0] > 1:
            w[:, self.rng.random(dims[0]) < 0.2] = 0
        size = int(np.prod(dims))
        b = self.rng.integers(-2000 * size, 2000 * size, out)
        b[self.rng.random(out) < 0.2] *= 2**9
        return w.astype(np.int8), b.astype(np.int32), 1 / (60 * size**0.5)

    def quant(self) -> Quant:
        return Quant(1.0, self.pick.choice((-128, -128, 0, 5, 127)))

    def layer(self, x: Value) -> Value:
        first = x == self.net.x and self.first
        c, h, w = (x.type.dims[i] for i in ((1, 2, 3) if first else (3, 1, 2)))
        kernel = (self.pick.randint(1, min(3, h)), self.pick.randint(1, min(3, w)))
        pad = self.pick.choice(((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1)))
        stride = self.pick.choice(((1, 1), (1, 1), (2, 1)))
        groups = [1, 1] + [c, c] * (x != self.net.x) + [2] * (c % 2 == 0)
        g = self.pick.choice(groups)
        out = g * self.pick.choice((1, 1, 2)) if g > 2 else g * self.pick.choice((3, 4, 5, 8))
        weights, b, real = self.planted(out, c // g, *kernel)
        window = Window(kernel, stride, (1, 1), pad)
        quants = (self.quant(), self.quant())
        y = (x.type.dims[0], *window.out(h, w), out)
        skips = [v for v in getattr(self, "images", []) if v.type.dims == y and g == 1]
        skip = self.pick.choice(skips) if skips else None
        return self.net.conv(
            x, weights, b, real=real, window=window, groups=g, quants=quants, skip=skip,
            channels_first=first,
        )  # fmt: skip

    def pooled(self, x: Value) -> Value:
        kernel = (min(2, x.type.dims[1]), min(2, x.type.dims[2]))
        q = self.quant()
        return self.net.add(Pool2dS8(Window(kernel), self.pick.random() < 0.5, q, q, -128, 127), x)

    def joined(self, x: Value) -> Value:
        same = [v for v in self.images if v.type.dims[:-1] == x.type.dims[:-1]]
        return self.net.add(Concat(3), x, self.pick.choice(same))

    def two(self, x: Value) -> Value:
        """A binary operator: with an image of the same shape, or with constants."""
        same = [v for v in self.images if v.type.dims == x.type.dims]
        c = x.type.dims[-1]
        data = self.rng.integers(-128, 128, self.pick.choice(((c,), (1,), (1, 1, 1, c), ())))
        other = self.pick.choice((self.net.constant(np.asarray(data, np.int8)), *same))
        kind = self.pick.choice(("add", "sub", "mul"))
        y = Quant(30.0 if kind == "mul" else 1.0, 3)
        op = BinaryS8(kind, self.quant(), self.quant(), y, -128, 127)
        return self.net.add(op, x, other)

    def moved(self, x: Value) -> Value:
        n, h, w, c = x.type.dims
        table = self.net.constant(self.rng.integers(-128, 128, 256).astype(np.int8))
        start = self.pick.randint(0, c - 1)
        moves: list[tuple[Op, tuple[Value, ...]]] = [
            (TableS8(UNIT, UNIT), (x, table)),
            (Pad((0, 1, 0, 0), (0, 0, 2, 0), 7), (x,)),
            (Pad((0, 0, 0, 1), (0, 0, 0, 0), 7), (x,)),
            (Slice(3, start, self.pick.randint(1, c - start)), (x,)),
            (Slice(3, 0, (c + 1) // 2, 2), (x,)),
            (Slice(1, h - 1, h, -1), (x,)),
            (Permute((0, 2, 1, 3)), (x,)),
            (Permute((0, 1, 3, 2)), (x,)),
            (Expand((2, n, h, w, c)), (x,)),
            (Gather(2), (x, self.net.constant(np.array([w - 1, 0, 0])))),
            (ReduceS8("amin", (1,), True, UNIT, UNIT), (x,)),
            (ReduceS8("mean", (1, 2), True, UNIT, UNIT), (x,)),
            (ReduceS8("sum", (3,), True, UNIT, UNIT), (x,)),
        ]
        op, inputs = self.pick.choice(moves)
        y = self.net.add(op, *inputs)
        return self.net.add(Reshape((2 * n, h, w, c)), y) if y.type.rank == 5 else y


def test_random_graphs_keep_every_bit() -> None:
    """And many of them lose channels, for each of the reasons."""
    slimmed: list[Slimmed] = []
    for seed in range(300):
        graph = RandomNet(seed).graph()
        small = slim(graph)
        assert_same(graph, small, inputs_of(graph, seed, 2))
        slimmed += small.slimmed
    assert len(slimmed) > 100
    for reason in ("zero", "clamped", "constant", "unread"):
        assert sum(getattr(s, reason) for s in slimmed) > 30, reason


def zeroed(w: Array, count: int) -> Array:
    """`w` with its first filters zero."""
    return np.concatenate([np.zeros_like(w[:count]), w[count:]])


def checked(graph: Graph) -> Graph:
    """The slimmed graph, after comparison."""
    small = slim(graph)
    assert_same(graph, small, inputs_of(graph, 0, 3))
    return small


def dead_conv(net: Net, bias: int = 3) -> Value:
    """12 outputs, of which the first 8 are `bias`."""
    w = zeroed(filters(12, net.shape[-1], 1, 1), 8)
    return net.conv(net.x, w, biases(*[bias << 7] * 12), real=2**-7)


def head(net: Net, x: Value, w: Array | None = None) -> Value:
    """A convolution that reads all channels."""
    w = filters(3, x.type.dims[3], 1, 1, seed=2) if w is None else w
    return net.conv(x, w, biases(1, 2, 3), real=2**-9)


def test_zero_filters_become_biases() -> None:
    net = Net((1, 4, 4, 2))
    small = checked(net.graph(head(net, dead_conv(net))))
    assert extents(small) == [4, 3]
    assert small.slimmed == (Slimmed("v0", 12, 4, zero=8, clamped=0, constant=0, unread=0),)
    weights = {k: c.shape for k, c in small.constants.items() if c.ndim == 4}
    assert weights == {"c0.slim": (4, 2, 1, 1), "c4.slim": (3, 4, 1, 1)}


@pytest.mark.parametrize(("weight", "left"), [(1, [4, 4, 3]), (100, [12, 12, 3])])
def test_constant_planes_in_a_padded_depthwise_layer(weight: int, left: list[int]) -> None:
    """They go where rounding makes the border the same as the middle."""
    net = Net((1, 4, 4, 2))
    w, window = np.full((12, 1, 3, 3), weight), Window((3, 3), pad=(1, 1, 1, 1))
    y = net.conv(dead_conv(net), w, biases(*range(12)), groups=12, window=window, real=2**-10)
    small = checked(net.graph(head(net, y)))
    assert extents(small) == left


@pytest.mark.parametrize(("pad", "bias", "left"), [(0, 3, [4, 3]), (1, 3, [12, 3]), (1, 0, [4, 3])])
def test_constants_in_a_padded_convolution(pad: int, bias: int, left: list[int]) -> None:
    """What the padding holds is the one constant that goes everywhere."""
    net = Net((1, 4, 4, 2))
    window = Window((3, 3), pad=(pad, pad, pad, pad))
    y = net.conv(dead_conv(net, bias), filters(3, 12, 3, 3), real=2**-11, window=window)
    assert extents(checked(net.graph(y))) == left


def test_a_constant_goes_where_the_border_weighs_nothing() -> None:
    net = Net((1, 4, 4, 2))
    w = filters(3, 12, 3, 3)
    w[:, :, [0, 2]], w[:, :, :, [0, 2]] = 0, 0
    y = net.conv(dead_conv(net), w, real=2**-9, window=Window((3, 3), pad=(1, 1, 1, 1)))
    assert extents(checked(net.graph(y))) == [4, 3]


def test_sums_that_are_always_clamped() -> None:
    """By the interval of every input: here ReLU's, so weights of one sign do not matter."""
    net = Net((1, 3, 3, 2))
    relu = net.conv(net.x, filters(4, 2, 1, 1), real=2**-7, quants=(UNIT, Quant(1.0, -128)))
    w = filters(8, 4, 1, 1)
    w[:4] = -np.abs(w[:4])
    y = net.conv(
        relu, w, biases(0, 0, -1, -9, 0, 0, 0, 0), real=2**-7,
        quants=(Quant(1.0, -128), Quant(1.0, -128)),
    )  # fmt: skip
    small = checked(net.graph(head(net, y)))
    assert extents(small) == [4, 4, 3]
    assert small.slimmed == (Slimmed("v1", 8, 4, zero=0, clamped=4, constant=0, unread=0),)


def test_what_no_layer_reads() -> None:
    """Nor what only that depends on."""
    net = Net((1, 3, 3, 2))
    first = net.conv(net.x, filters(9, 2, 1, 1), real=2**-7)
    second = filters(8, 9, 1, 1)
    second[4:, :4] = 0
    y = net.conv(first, second, real=2**-9)
    last = filters(3, 8, 1, 1)
    last[:, :4] = 0
    small = checked(net.graph(head(net, y, last)))
    assert extents(small) == [8, 4, 3]
    assert [s.unread for s in small.slimmed] == [4, 4]


def test_channels_stay_together() -> None:
    """A sum keeps what either side needs, a concatenation what each of its parts does."""
    net = Net((1, 3, 3, 2))
    a, b = dead_conv(net), net.conv(net.x, zeroed(filters(12, 2, 1, 1), 4), real=2**-7)
    total = net.add(BinaryS8("add", UNIT, UNIT, UNIT, -128, 127), a, b)
    both = net.add(Concat(3), total, dead_conv(net))
    small = checked(net.graph(head(net, both)))
    assert extents(small) == [8, 8, 4, 3]


def test_a_constant_behind_a_residual_add_stays() -> None:
    net = Net((1, 3, 3, 2))
    skip = dead_conv(net)
    y = net.conv(net.x, zeroed(filters(12, 2, 1, 1), 8), biases(*[640] * 12), real=2**-7, skip=skip)
    small = checked(net.graph(y, head(net, dead_conv(net))))
    assert extents(small) == [12, 12, 4, 3]


def test_channels_of_a_flattened_image() -> None:
    net = Net((1, 2, 3, 2))
    flat = net.add(Reshape((1, 72)), dead_conv(net))
    y = net.linear(flat, filters(5, 72), biases(*range(5)), 2**-11)
    small = checked(net.graph(y))
    assert extents(small) == [4, 5]
    assert small.nodes[2].inputs[1].type.dims == (5, 24)


def test_a_bias_that_would_overflow() -> None:
    """The sums are so near 100.5 steps of the output that it still depends on the input."""
    net = Net((1, 2, 2, 2))
    bias = np.full(3, (1 << 31) - 1, np.int32)
    y = net.conv(dead_conv(net), filters(3, 12, 1, 1), bias, real=100.5 / 2**31)
    assert extents(checked(net.graph(y))) == [12, 3]


def test_layers_that_share_weights() -> None:
    net = Net((1, 2, 2, 12))
    shared = filters(12, 12, 1, 1)
    first = net.conv(net.x, shared, real=2**-9)
    y = net.conv(dead_conv(net), shared, real=2**-9)
    twice = replace(net.nodes[-1], inputs=(net.nodes[-1].inputs[0], *net.nodes[0].inputs[1:]))
    net.nodes[-1] = twice
    small = checked(net.graph(first, y))
    assert extents(small) == [12, 4, 12]
    assert len({n.inputs[1].name for n in small.nodes}) == 3


def test_nothing_to_slim() -> None:
    """Up to a block of channels costs nothing, and inputs and outputs stay as they are."""
    net = Net((1, 3, 3, 2))
    five = filters(8, 2, 1, 1)
    five[5:] = 0
    y = net.conv(net.x, five, real=2**-7)
    dead = net.conv(y, zeroed(filters(12, 8, 1, 1), 8), real=2**-9)
    graph = net.graph(dead)
    small = checked(graph)
    assert small == graph and not small.slimmed


def test_the_manifest_has_the_proofs() -> None:
    net = Net((1, 4, 4, 2))
    program = select(slim(net.graph(head(net, dead_conv(net)))), find_target("generic"))
    facts = manifest(plan(program), Options(), model_hash="", weights=Blob({}), version="")
    reasons = {"zero": 8, "clamped": 0, "constant": 0, "unread": 0}
    layer = {"layer": "v0", "module": "", "channels": [12, 4], "reasons": reasons}
    assert facts["slimmed"] == [layer]
