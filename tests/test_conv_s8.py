# SPDX-License-Identifier: Apache-2.0
"""int8 convolutions and linear layers: the references against PyTorch and Python's integers, the C
against the references to the bit, on every kind of processor, with y over its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from board_sets import each
from emx.add_s8 import AddS8
from emx.ir import Array, Unsupported
from emx.kernel import Wishes
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.linear_s8 import LinearS8
from emx.quant import Multiplier, Quant, multipliers
from emx.window import Window
from kernels_s8 import Layer, alike, run_kernels, scaled
from many import SANITIZE

X, Y, Z = Quant(0.05, -88), Quant(0.11, 7), Quant(0.2, -20)
SAME = (1, 1, 1, 1)


def weights(random: np.random.Generator, shape: Sequence[int], kind: str) -> Array:
    """Ordinary, as large as can be, small, or with -128, which excludes some packings."""
    if kind == "extreme":
        return np.where(random.random(shape) < 0.5, np.int8(-127), np.int8(127))
    low, high = {"full": (-128, 127), "small": (-1, 1)}.get(kind, (-127, 127))
    w = random.integers(low, high + 1, shape).astype(np.int8)
    if kind == "full":
        w[0], w[1].flat[0] = -1, -128
    return w


def conv(
    x: tuple[int, int, int, int],
    w: tuple[int, int, int, int],
    *window: Any,
    groups: int = 1,
    kind: str = "",
    real: float | Sequence[float] | None = None,
    **fields: Any,
) -> Layer:
    """x is [n][h][w][c] also if channels_first; `real` is the multiplier of the outputs."""
    random = np.random.default_rng(sum(x) + 7 * sum(w))
    op = Conv2dS8(Window(w[2:], *window), groups, X, Y, -128, 127)
    if lo := fields.pop("lo", None):
        op = replace(op, lo=lo, hi=fields.pop("hi"))
    data = random.integers(-128, 128, x).astype(np.int8)
    if kind == "extreme":
        data = np.where(data < 0, np.int8(-128), np.int8(127))
    packed = weights(random, w, kind)
    rest = scaled(packed, X, Y, seed=sum(w))
    if real is not None:
        rest = rest[0], multipliers(np.full(w[0], real)), rest[2]
    if fields.get("channels_first"):
        data = np.ascontiguousarray(data.transpose(0, 3, 1, 2))
    op = replace(op, **fields)
    layer = Layer(op, data, (packed, *rest))
    if op.add or op.direct:
        image = op.layout(layer.node.inputs[0].type)
        shape = (x[0], *op.window.out(image.height, image.width), w[0])
        return replace(layer, skip=random.integers(-128, 128, shape).astype(np.int8))
    return layer


def linear(rows: Sequence[int], inner: int, out: int, kind: str = "") -> Layer:
    random = np.random.default_rng(sum(rows) + inner + out)
    w = weights(random, (out, inner), kind)
    x = random.integers(-128, 128, (*rows, inner)).astype(np.int8)
    return Layer(LinearS8(X, Y, -128, 127), x, (w, *scaled(w, X, Y)))


ADD = AddS8(Y, Z, Quant(0.25, 3), -128, 127)
LAYERS = {
    "one": conv((1, 1, 1, 1), (2, 1, 1, 1)),
    "pointwise": conv((1, 5, 5, 8), (8, 8, 1, 1)),
    "narrowing": conv((2, 4, 3, 20), (5, 20, 1, 1)),
    "expanding": conv((1, 4, 5, 3), (17, 3, 1, 1)),
    "strided": conv((1, 7, 6, 8), (4, 8, 1, 1), (2, 2)),
    "same": conv((1, 5, 6, 8), (9, 8, 3, 3), (1, 1), (1, 1), SAME),
    "wide_runs": conv((1, 4, 7, 16), (12, 16, 3, 3), (1, 1), (1, 1), SAME),
    "image": conv((1, 7, 9, 3), (6, 3, 3, 3), (2, 2), (1, 1), (0, 1, 0, 1)),
    "batch": conv((3, 5, 5, 4), (4, 4, 2, 3), (1, 2), (1, 1), (1, 0, 2, 0)),
    "stem": conv((1, 13, 10, 1), (8, 1, 10, 4), (2, 2), (1, 1), (4, 5, 1, 1)),
    "dilated": conv((1, 9, 9, 4), (4, 4, 3, 3), (1, 1), (3, 2), (3, 3, 2, 2)),
    "beyond": conv((1, 2, 2, 4), (4, 4, 3, 3), (1, 1), (1, 1), (3, 3, 3, 3)),
    "groups": conv((1, 6, 5, 12), (6, 4, 3, 3), (1, 1), (1, 1), SAME, groups=3),
    "odd_groups": conv((1, 5, 4, 9), (15, 3, 3, 2), groups=3),
    "first": conv((2, 6, 7, 3), (4, 3, 3, 3), (2, 2), (1, 1), SAME, channels_first=True),
    "first_one": conv((1, 6, 7, 1), (5, 1, 3, 3), channels_first=True),
    "clamped": conv((1, 4, 4, 8), (6, 8, 3, 3), lo=-20, hi=31),
    "extreme": conv((1, 6, 5, 32), (8, 32, 3, 3), (1, 1), (1, 1), SAME, kind="extreme"),
    "full": conv((1, 6, 5, 16), (9, 16, 3, 3), (1, 1), (1, 1), SAME, kind="full"),
    "steep": conv((1, 3, 5, 4), (7, 4, 2, 2), kind="small", real=0.3),
    "wide": conv((1, 4, 5, 4), (7, 4, 3, 3), (1, 1), (1, 1), SAME, real=3e6),
    "tiny": conv((1, 4, 5, 4), (7, 4, 3, 3), real=3e-7),
    "vanished": conv((1, 4, 5, 4), (7, 4, 3, 3), real=0.0),
    "add": conv((1, 5, 7, 8), (8, 8, 3, 3), (1, 1), (1, 1), SAME, add=ADD),
    "add_clamped": conv((1, 5, 5, 8), (6, 8, 1, 1), lo=-9, hi=99, add=replace(ADD, lo=3)),
    "add_groups": conv((1, 5, 5, 8), (10, 4, 3, 3), groups=2, add=ADD),
    "add_wide": conv((1, 3, 5, 4), (5, 4, 1, 1), real=3e6, add=ADD),
    "direct": conv((1, 5, 7, 8), (7, 8, 3, 3), (1, 1), (1, 1), SAME, direct=Z),
    "direct_steep": conv(
        (1, 5, 3, 4), (6, 4, 1, 1), kind="small", real=0.3, direct=Quant(0.001, 4), lo=-9, hi=99
    ),
    "direct_groups": conv((1, 4, 5, 12), (18, 4, 3, 3), groups=3, direct=Z, channels_first=True),
    "direct_wide": conv((1, 3, 5, 4), (5, 4, 1, 1), real=(3e6, *[4e-3] * 4), direct=Z),
    "direct_fine": conv((1, 3, 5, 4), (9, 4, 1, 1), direct=Quant(1e-5, 100)),
    "row": linear((1,), 64, 12),
    "row_odd": linear((1, 1), 37, 10),
    "row_full": linear((), 48, 9, kind="full"),
    "rows": linear((2, 3), 16, 6),
    "rows_odd": linear((3,), 5, 4),
}  # fmt: skip
# Biases of more than 24 bits, as zero points of others bring about.
LARGE = replace(
    LAYERS["same"],
    constants=(
        LAYERS["same"].constants[0],
        np.arange(9, dtype=np.int32) * 1200000,
        multipliers(np.full(9, 2.0**-18)),
        np.zeros(9, np.int32),
    ),
)
MACHINES = {"host": SANITIZE, "mps2-an386": ("-O3",), "mps3-an547": ("-O3",)}


def exact(layer: Layer) -> Array:
    """What a layer computes, by PyTorch in float64 and in Python's integers."""
    op: Any = layer.op
    w, b, m, c = layer.constants
    x = torch.from_numpy(layer.x.astype(np.float64) - op.x.zero)
    if isinstance(op, LinearS8):
        acc = torch.nn.functional.linear(x, torch.from_numpy(w.astype(np.float64))).numpy()
    else:
        if not op.channels_first:
            x = x.permute(0, 3, 1, 2)
        top, bottom, left, right = op.window.pad
        x = torch.nn.functional.pad(x, (left, right, top, bottom))
        weight = torch.from_numpy(w.astype(np.float64))
        window = op.window.stride, 0, op.window.dilation, op.groups
        acc = torch.nn.functional.conv2d(x, weight, None, *window).permute(0, 2, 3, 1).numpy()
    y = np.empty(acc.shape, np.int8)
    for at in np.ndindex(acc.shape):
        o = at[-1]
        by = 41 - int(m[o]) % 256
        v = (int(acc[at]) + int(b[o])) * int(m[o]) + (int(c[o]) << by - 9)
        if layer.skip is not None and op.direct:
            ratio = Multiplier.of(op.direct.scale / op.y.scale)
            v += ((int(layer.skip[at]) - op.direct.zero) * ratio.m << 64) >> (64 + ratio.shift - by)
        rounded = (v + (1 << by - 1)) >> by
        y[at] = min(max(rounded + op.y.zero, op.lo), op.hi)
    return y if layer.skip is None or op.direct else op.add.reference(y, layer.skip)


@pytest.mark.parametrize("name", LAYERS)
def test_reference_is_exact(name: str) -> None:
    layer = LAYERS[name]
    expected = exact(layer)
    assert layer.expected.dtype == np.int8 and np.array_equal(layer.expected, expected)
    assert name in ("one", "tiny", "vanished", "wide") or len(np.unique(expected)) > 2


@pytest.mark.parametrize(
    "machine", ["host", *each(("mps2-an386", "mps3-an547", "mps2-an385", "mps2-an505"))]
)
def test_kernels_agree_with_the_reference(tmp_path: Path, machine: str) -> None:
    lines = run_kernels(LAYERS, tmp_path, machine, *MACHINES.get(machine, ("-O2",)))
    assert [line for line in lines if not line.endswith("good")] == []
    assert sum(line.endswith("-1 good") for line in lines) > len(LAYERS) + 20


@pytest.mark.parametrize("machine", ["mps2-an386", "mps3-an547"])
@pytest.mark.parametrize("level", ["-Os", pytest.param("-O0", marks=pytest.mark.slow)])
def test_kernels_agree_at_other_levels(tmp_path: Path, machine: str, level: str) -> None:
    """Nothing is folded at -O0, so that all layers would not fit the board."""
    few = ("pointwise", "same", "image", "full", "wide", "add", "row_odd")
    layers = {k: v for k, v in LAYERS.items() if level != "-O0" or k in few}
    lines = run_kernels(layers, tmp_path, machine, level)
    assert [line for line in lines if not line.endswith("good")] == []


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_generic_kernels_run_anywhere(tmp_path: Path, board: str) -> None:
    lines = run_kernels(LAYERS, tmp_path, board, "-O2", target="generic")
    assert [line for line in lines if not line.endswith("good")] == []


@pytest.mark.parametrize("machine", ["host", "mps2-an386", "mps3-an547"])
def test_small_parameters_give_the_same(tmp_path: Path, machine: str) -> None:
    """7 bytes an output, 12 where biases are large."""
    wishes = Wishes("size")
    flags = MACHINES["host"] if machine == "host" else ("-Os",)
    layers = {name: alike(layer) for name, layer in LAYERS.items()} | {"large": LARGE}
    lines = run_kernels(layers, tmp_path, machine, *flags, wishes=wishes)
    assert [line for line in lines if not line.endswith("good")] == []
    found = {k: layer.kernels("cortex-m4", wishes)[0] for k, layer in layers.items()}
    assert {k.params["words"] for k in found.values()} == {7, 12}
    assert {"wide", "direct", "large"} <= {k for k in found if found[k].params["words"] == 12}
    assert found["row"].weights["q"].nbytes == 12 * 7
    assert LAYERS["row"].kernels("cortex-m4", wishes)[0].params["words"] == 12


def test_weights_are_packed_in_all_ways() -> None:
    """Two outputs as one, which is the rule, and what may forbid it."""
    twice = {
        name for name, layer in LAYERS.items() if layer.kernels("cortex-m4")[0].params.get("twice")
    }
    assert {"pointwise", "same", "stem", "row", "extreme", "add", "clamped"} <= twice
    assert not {"full", "row_full", "steep", "wide", "direct", "odd_groups"} & twice


def test_a_sum_that_may_overflow_is_refused() -> None:
    layer = linear((1,), 16, 4)
    w, _, m, c = layer.constants
    bias = np.full(4, 2**31 - 1000, np.int32)
    with pytest.raises(Unsupported, match="a sum of 16 products may overflow 32 bits"):
        replace(layer, constants=(w, bias, m, c)).kernels("generic")


def test_a_skip_of_another_magnitude_is_refused() -> None:
    layer = LAYERS["direct_steep"]
    op: Any = layer.op
    steep = replace(layer, op=replace(op, direct=Quant(1e4, 0)))
    with pytest.raises(Unsupported, match=r"a sum of scale 1e\+04 in steps of 0.11"):
        steep.kernels("generic")


def test_weights_of_another_shape_are_refused() -> None:
    layer = linear((2,), 16, 4)
    with pytest.raises(Unsupported, match="does not match the weight"):
        replace(layer, x=layer.x[:, :5]).node.op.infer(
            *(v.type for v in replace(layer, x=layer.x[:, :5]).node.inputs)
        )
