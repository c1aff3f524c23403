# SPDX-License-Identifier: Apache-2.0
"""Pads of int8 images join the window of what reads them, also where a quantizer gave both sides
scales of their own: to the bit what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converted import MODELS, archive, convert
from emx import passes
from emx.api import export, generate
from emx.bundle import Bundle, Ref
from emx.interpret import outputs
from emx.ir import DType, Op
from emx.load import load
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.conv3d_s8 import Conv3dS8
from emx.ops.movement import Pad
from emx.ops.pool2d_s8 import Pool2dS8
from emx.ops.table_s8 import TableS8
from emx.options import Options
from emx.passes.fuse_s8 import fuse_residual_s8, raise_tables_s8
from emx.target import find_target
from many import SANITIZE, run_together
from quant_models import Model, all_integer, ops

SIDES = [1, 2, 0, 1]  # left, right, top, bottom


def conv(m: Model, x: Ref, *shape: int, groups: int = 1) -> Ref:
    dims = len(shape) - 2
    rest = ([1] * dims, [0] * dims, [1] * dims, groups)
    return m.op(f"conv{dims}d.default", x, m.w(*shape), m.b(shape[0]), *rest)


# What reads a padded x of 4 channels.
READERS: dict[str, Callable[[Model, Ref], Ref]] = {
    "conv": lambda m, x: conv(m, x, 6, 4, 3, 3),
    "depthwise": lambda m, x: conv(m, x, 4, 1, 3, 3, groups=4),
    "mean": lambda m, x: m.op("avg_pool2d.default", x, [2, 3], [2, 1]),
    "mean with a divisor": lambda m, x: m.op(
        "avg_pool2d.default", x, [3, 3], [2, 2], [0, 0], False, True, 7
    ),
    "maximum": lambda m, x: m.op("max_pool2d.default", x, [3, 3], [2, 2]),
}


def requantised(reader: str, zeros: tuple[int, int], value: float = 0.0) -> Bundle:
    """A convolution, a pad with scales of its own on both sides, and what reads it; a maximum gives
    what it has."""
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 7, 6), 4, 3, 1, 1), 3 / 128, zeros[0])
    x = m.op("constant_pad_nd.default", x, SIDES, value)
    y = READERS[reader](m, m.q(x, 1 / 64, zeros[1]))
    return m.made(y if reader == "maximum" else m.q(y, 0.05, -7))


def pads_after(bundle: Bundle) -> int:
    """How many pads are left; the layers are those of PyTorch, and the passes change no bit."""
    graph = all_integer(bundle)
    assert differences(bundle) == 0
    return len(ops(graph, Pad))


def differences(bundle: Bundle) -> int:
    """How many integers of the outputs the passes of this file change, of random inputs."""
    before = load(bundle)
    first, last = map(passes.PIPELINE.index, (raise_tables_s8, fuse_residual_s8))
    for p in passes.PIPELINE[:first]:
        before = p(before)
    after = before
    for p in passes.PIPELINE[first:last]:
        after = p(after)
    random, found = np.random.default_rng(3), 0
    for _ in range(4):
        numbers = [(v, random.uniform(0, 1, v.type.dims)) for v in before.inputs]
        given = [
            x.astype(np.float32) if v.type.dtype is DType.F32 else np.int8(x * 256 - 128)
            for v, x in numbers
        ]
        for y, z in zip(outputs(before, given), outputs(after, given), strict=True):
            found += int((y != z).sum())
    return found


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("zeros", [(-128, -128), (3, -9)])
def test_a_pad_between_two_scales_joins_the_window(reader: str, zeros: tuple[int, int]) -> None:
    """A maximum ignores what lies outside: that is the same only for the least integer."""
    left = reader == "maximum" and zeros[1] != -128
    bundle = requantised(reader, zeros)
    assert pads_after(bundle) == left
    assert len(ops(all_integer(bundle), TableS8)) == 1


@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_the_zero_point_stays_a_pad(reader: str) -> None:
    bundle = requantised(reader, (3, -9), value=0.75)
    graph = all_integer(bundle)
    assert pads_after(bundle) == 1
    (table,) = (n for n in graph.nodes if isinstance(n.op, TableS8))
    (pad,) = (n for n in graph.nodes if isinstance(n.op, Pad))
    assert pad.inputs == table.outputs  # of fewer elements all the same
    assert pad.op == replace(pad.op, value=-9 + 0.75 * 64)  # type: ignore[type-var]


def test_a_value_beyond_the_range_is_the_bound() -> None:
    """108 of the first scale are more than the second can say."""
    bundle = requantised("conv", (0, 100), value=108 * 3 / 128)
    (pad,) = ops(all_integer(bundle), Pad)
    assert isinstance(pad, Pad) and pad.value == 127 and differences(bundle) == 0


@pytest.mark.parametrize("reader", ["mean", "maximum"])
def test_a_window_with_nothing_but_the_pad_keeps_it(reader: str) -> None:
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 7, 6), 4, 3, 1, 1), 3 / 128, -128)
    x = m.op("constant_pad_nd.default", x, [0, 0, 3, 0], 0.0)
    assert pads_after(m.made(m.q(READERS[reader](m, m.q(x, 1 / 64, -128)), 0.05))) == 1


def test_a_mean_that_counts_its_own_padding_keeps_the_pad() -> None:
    """It has two borders then: one that counts, and one that does not."""
    m = Model()
    x = m.op("constant_pad_nd.default", m.x(1, 4, 7, 6), [1, 0, 0, 1], 0.0)
    y = m.op("avg_pool2d.default", x, [3, 3], [2, 2], [1, 1], False, False)
    assert pads_after(m.made(m.q(y, 0.043))) == 1


LINES: dict[str, tuple[tuple[int, ...], tuple[int, ...], list[int], type[Op]]] = {
    "1-D": ((1, 3, 9), (6, 4, 3), [2, 1], Conv2dS8),
    "3-D": ((1, 3, 4, 5, 6), (6, 4, 2, 3, 3), [1, 1, 0, 1, 1, 0], Conv3dS8),
}


@pytest.mark.parametrize("dims", LINES)
def test_layers_of_fewer_and_more_dimensions(dims: str) -> None:
    image, weights, sides, kind = LINES[dims]
    m = Model()
    x = m.q(conv(m, m.x(*image), 4, 3, *[1] * (len(image) - 2)), 3 / 128, 5)
    x = m.q(m.op("constant_pad_nd.default", x, sides, 0.0), 1 / 64, -9)
    bundle = m.made(m.q(conv(m, x, *weights), 0.05))
    assert pads_after(bundle) == 0
    assert len(ops(all_integer(bundle), kind)) == 2


def test_functions_before_and_behind_a_pad_are_one_table() -> None:
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 7, 6), 4, 3, 1, 1), 1 / 32, 5)
    x = m.q(m.op("gelu.default", x), 1 / 48, -9)
    x = m.q(m.op("constant_pad_nd.default", x, SIDES, 0.0), 1 / 64, -12)
    bundle = m.made(m.q(conv(m, x, 6, 4, 3, 3), 0.05))
    assert pads_after(bundle) == 0
    assert len(ops(all_integer(bundle), TableS8)) == 1


def test_readers_with_scales_of_their_own() -> None:
    """Each has its table; the pad is in both windows."""
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 7, 6), 4, 3, 1, 1), 3 / 128, 5)
    x = m.op("constant_pad_nd.default", x, SIDES, 0.0)
    both = [m.q(conv(m, m.q(x, 1 / k, 2), 6, 4, 3, 3), 0.05) for k in (50, 60)]
    assert pads_after(m.made(*both)) == 0


def test_a_pad_that_others_read_too() -> None:
    """It stays for them; the table does not wait for it."""
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 7, 6), 4, 3, 1, 1), 3 / 128, 5)
    x = m.op("constant_pad_nd.default", x, SIDES, 0.0)
    bundle = m.made(x, m.q(conv(m, m.q(x, 1 / 64, 2), 6, 4, 3, 3), 0.05))
    assert pads_after(bundle) == 1
    (table,) = (n for n in all_integer(bundle).nodes if isinstance(n.op, TableS8))
    assert table.output.type.size == 4 * 7 * 6


def test_what_leaves_elements_out_comes_before_the_table() -> None:
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 4, 5), 4, 3, 1, 1), 1 / 32, 5)
    y = m.op("gelu.default", m.op("slice.Tensor", x, 3, 0, 5, 2))
    graph = all_integer(m.made(m.q(y, 1 / 48, -9)))
    (table,) = (n for n in graph.nodes if isinstance(n.op, TableS8))
    assert table.output.type.size == 4 * 4 * 3


@pytest.mark.parametrize("move", ["nearest", "expand"])
def test_what_repeats_elements_repeats_results(move: str) -> None:
    m = Model()
    x = m.q(conv(m, m.x(1, 3, 4, 5), 4, 3, 4, 1), 1 / 32, 5)
    if move == "nearest":
        x = m.op("upsample_nearest2d.default", x, [2, 10])
    else:
        x = m.op("expand.default", x, [1, 4, 6, 5])
    bundle = m.made(m.q(m.op("gelu.default", x), 1 / 48, -9))
    graph = all_integer(bundle)
    assert differences(bundle) == 0
    kinds = [n.op.name for n in graph.nodes if n.op.name in ("table_s8", "resample", "expand")]
    assert kinds[0] == "table_s8" and len(kinds) >= 2


class Padded(nn.Module):
    """Pads as MobileNets from other frameworks have them, apart from the layers that need them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.last = nn.Conv2d(12, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(F.pad(x, (0, 1, 0, 1))))
        x = F.relu(self.depthwise(F.pad(x, (0, 1, 0, 1))))
        x = F.relu(self.pointwise(F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)))
        return self.last(F.pad(x, (1, 0, 2, 1)))


@cache
def converted() -> Bundle:
    torch.manual_seed(5)
    images = torch.rand(24, 3, 32, 32).split(1)
    program = torch.export.export(Padded().eval(), (images[0],))
    return export(convert(program, "xnnpack", images), vectors=4)


def test_a_converted_network_has_no_pads() -> None:
    graph = all_integer(converted())
    assert not ops(graph, Pad) and differences(converted()) == 0
    layers = [n.op for n in graph.nodes if isinstance(n.op, Conv2dS8 | Pool2dS8)]
    pads = [(0, 1, 0, 1), (0, 1, 0, 1), (1, 1, 1, 1), (0, 0, 0, 0), (2, 1, 1, 0)]
    assert [op.window.pad for op in layers] == pads


# Bytes with inputs and outputs in the arena.
RAM = {"xnnpack": 37_500, "qat": 37_500}


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("form", RAM)
def test_arena_of_a_network_with_pads(form: str) -> None:
    bundle = export(archive("vww", form))
    facts = generate(bundle, find_target("cortex-m4"), Options(io_arena=True)).manifest
    assert facts["arena_bytes"] <= RAM[form]
    assert not ops(passes.run(load(bundle)), Pad)


@pytest.mark.slow
def test_host_under_sanitizers(tmp_path: Path) -> None:
    """The C of these, byte for byte that of the twin."""
    bundles = [
        *(requantised(reader, zeros) for reader in READERS for zeros in ((-128, -128), (3, -9))),
        converted(),
    ]
    named = [replace(b, name=f"m{i}") for i, b in enumerate(bundles)]
    run_together(named, tmp_path, "host", SANITIZE, Options(test=True, taps=True))
