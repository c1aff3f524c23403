# SPDX-License-Identifier: Apache-2.0
"""Pixels that nobody reads are not computed; those that are left keep every bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converted import MODELS, archive
from emx import passes
from emx.api import export, generate
from emx.bundle import Bundle, Ref
from emx.interpret import outputs
from emx.ir import DType, Graph
from emx.load import load
from emx.ops.conv2d import Conv2d
from emx.ops.conv2d_mixed import Conv2dMixed
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.pool2d import Pool2d
from emx.ops.pool2d_s8 import Pool2dS8
from emx.options import Options
from emx.passes.stride import raise_strides
from emx.target import find_target
from many import SANITIZE, run_together
from quant_models import Model, ops, optimised

ONE, TWO, THREE = [1, 1], [2, 2], [3, 2]


def strides(graph: Graph) -> list[tuple[int, int]]:
    """Of the convolutions, in order."""
    layers = [n.op for n in graph.nodes if isinstance(n.op, Conv2d | Conv2dMixed | Conv2dS8)]
    return [op.window.stride for op in layers]


def before_raising(bundle: Bundle) -> Graph:
    graph = load(bundle)
    for p in passes.PIPELINE[: passes.PIPELINE.index(raise_strides)]:
        graph = p(graph)
    return graph


def changed(bundle: Bundle) -> int:
    """How many numbers of the outputs raising strides changes, of random inputs."""
    before = before_raising(bundle)
    after, random, found = raise_strides(before), np.random.default_rng(3), 0
    for _ in range(4):
        numbers = [(v.type.dtype, random.uniform(0, 1, v.type.dims)) for v in before.inputs]
        given = [
            x.astype(np.float32) if t is DType.F32 else np.int8(x * 256 - 128) for t, x in numbers
        ]
        for y, z in zip(outputs(before, given), outputs(after, given), strict=True):
            found += int((y != z).sum())
    return found


def conv(m: Model, x: Ref, size: int, stride: list[int], *pad: int, groups: int = 1) -> Ref:
    """Of four channels to four."""
    w = m.w(4, 4 // groups, size, size)
    return m.op("conv2d.default", x, w, m.b(4), stride, list(pad or (0, 0)), [1, 1], groups)


def q(m: Model, x: Ref) -> Ref:
    return m.q(x, 0.06, -5)


def alone(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, [1, 2], 1, 1))
    return [q(m, conv(m, x, 1, THREE))]


def several(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 13, 10), 3, ONE, 1, 0))
    return [q(m, conv(m, x, 1, TWO)), q(m, conv(m, x, 1, [4, 2]))]


def chain(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 11, 10), 3, ONE, groups=4))
    return [q(m, conv(m, q(m, conv(m, x, 1, TWO)), 1, THREE))]


def functions(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, ONE))
    x = q(m, m.op("gelu.default", x))
    return [q(m, conv(m, x, 1, TWO))]


def added(m: Model) -> list[Ref]:
    """What is added is read elsewhere too."""
    x = q(m, conv(m, m.x(1, 4, 9, 8), 1, ONE))
    y = q(m, m.op("add.Tensor", q(m, conv(m, x, 3, ONE, 1, 1)), x))
    return [q(m, conv(m, y, 1, TWO))]


def added_in_units(m: Model) -> list[Ref]:
    """Without quantisation between, and what is added is read by nobody else."""
    first = m.x(1, 4, 9, 8)
    x, y = q(m, conv(m, first, 3, ONE, 1, 1)), conv(m, first, 3, ONE, 1, 1)
    return [q(m, conv(m, q(m, m.op("add.Tensor", x, y)), 1, TWO))]


def floats_behind(m: Model) -> list[Ref]:
    return [conv(m, alone(m)[0], 1, TWO)]


def floats(m: Model) -> list[Ref]:
    def layer(x: Ref, size: int, *rest: list[int]) -> Ref:
        return m.op("conv2d.default", x, m.b(4, 4, size, size), m.b(4), *rest)

    x = m.relu(layer(m.floats(1, 4, 9, 8), 1))
    y = m.relu(m.op("add.Tensor", layer(x, 3, ONE, ONE), x))
    return [layer(y, 1, TWO)]


# Network -> the strides that its convolutions have then.
RISE: dict[Callable[[Model], list[Ref]], list[tuple[int, int]]] = {
    alone: [(3, 4), (1, 1)],
    several: [(2, 2), (1, 1), (2, 1)],
    chain: [(6, 4), (1, 1), (1, 1)],
    functions: [(2, 2), (1, 1)],
    added: [(1, 1), (2, 2), (1, 1)],
    added_in_units: [(2, 2), (2, 2), (1, 1)],
    floats_behind: [(6, 8), (1, 1), (1, 1)],
    floats: [(1, 1), (2, 2), (1, 1)],
}
THINNED = (added, floats)  # what is added has pixels that others read


def bundle_of(network: Callable[[Model], list[Ref]]) -> Bundle:
    m = Model()
    return m.made(*network(m))


@pytest.mark.parametrize("network", RISE, ids=lambda f: f.__name__)
def test_strides_rise(network: Callable[[Model], list[Ref]]) -> None:
    bundle = bundle_of(network)
    graph = optimised(bundle)
    assert strides(graph) == RISE[network]
    assert len(ops(graph, Pool2d, Pool2dS8)) == (network in THINNED)
    assert changed(bundle) == 0


def read_whole(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, ONE))
    return [q(m, conv(m, x, 1, TWO)), q(m, conv(m, x, 3, TWO))]


def an_output(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, ONE))
    return [x, q(m, conv(m, x, 1, TWO))]


def of_no_common_step(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, ONE))
    return [q(m, conv(m, x, 1, TWO)), q(m, conv(m, x, 1, [3, 3]))]


def with_a_border(m: Model) -> list[Ref]:
    x = q(m, conv(m, m.x(1, 4, 9, 8), 3, ONE))
    return [q(m, conv(m, x, 1, TWO, 1, 1))]


def not_of_a_convolution(m: Model) -> list[Ref]:
    x = q(m, m.op("avg_pool2d.default", m.x(1, 4, 9, 8), [3, 3], ONE))
    return [q(m, conv(m, x, 1, TWO))]


STAY = (read_whole, an_output, of_no_common_step, with_a_border, not_of_a_convolution)


@pytest.mark.parametrize("network", STAY, ids=lambda f: f.__name__)
def test_strides_stay(network: Callable[[Model], list[Ref]]) -> None:
    graph = before_raising(bundle_of(network))
    assert str(raise_strides(graph)) == str(graph)


def test_what_is_given_out_is_whole() -> None:
    graph = before_raising(bundle_of(alone))
    first = next(n.output for n in graph.nodes if isinstance(n.op, Conv2dS8))
    graph = replace(graph, outputs=(*graph.outputs, first))
    assert str(raise_strides(graph)) == str(graph)


# Bytes with inputs and outputs in the arena: PyTorch quantises sums twice, for what is read whole
# and for what is read with a stride.
RAM = {"x86": 37_500, "arm": 37_500}


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("form", RAM)
def test_arena_of_a_residual_network(form: str) -> None:
    options = Options(io_arena=True)
    facts = generate(export(archive("ic", form)), find_target("cortex-m4"), options).manifest
    assert facts["arena_bytes"] <= RAM[form]
    assert facts["macs"] <= 13_200_000


@pytest.mark.slow
def test_host_under_sanitizers(tmp_path: Path) -> None:
    """The C of all these, byte for byte that of the twin."""
    bundles = [replace(bundle_of(network), name=f"m{i}") for i, network in enumerate(RISE)]
    run_together(bundles, tmp_path, "host", SANITIZE, Options(test=True, taps=True))
