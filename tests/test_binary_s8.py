# SPDX-License-Identifier: Apache-2.0
"""Sums, products and pooling of int8 against plain loops over exact fractions, and their C against
them on the host and the boards; in place too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emx.add_s8 import AddS8
from emx.ir import Array, DType, TensorType, Unsupported
from emx.ops.binary_s8 import BinaryS8
from emx.ops.pool2d_s8 import Pool2dS8
from emx.quant import Multiplier, Quant
from emx.window import Window
from kernels_s8 import Layer, run_kernels
from twins import MACHINES, Case, run_cases, s8

R = np.random.default_rng(7)
A, B = Quant(0.05, 3), Quant(0.11, -128)


def clamped(v: int, zero: int, lo: int, hi: int) -> int:
    return max(lo, min(hi, v + zero))


def half_up(v: Fraction) -> int:
    return (2 * v.numerator + v.denominator) // (2 * v.denominator)


# Sums and products


def exact_sum(op: BinaryS8) -> tuple[int, int, int]:
    """The multipliers of a sum by their definition: the largest shift that no corner overflows."""
    sign = -1 if op.kind == "sub" else 1
    for shift in range(31, 0, -1):
        ma = round(op.a.scale / op.y.scale * 2**shift)
        mb = round(sign * op.b.scale / op.y.scale * 2**shift)
        values = [
            (a - op.a.zero) * ma + (b - op.b.zero) * mb + op.y.zero * 2**shift + half
            for a, b, half in itertools.product((-128, 127), (-128, 127), (0, 2 ** (shift - 1)))
        ]
        if all(-(2**31) <= v < 2**31 for v in values):
            return ma, mb, shift
    raise AssertionError(op)


def binary_oracle(op: BinaryS8, a: int, b: int) -> int:
    if op.kind == "mul":
        m = Multiplier.of(min(op.a.scale * op.b.scale / op.y.scale, 512.0))
        exact = Fraction((a - op.a.zero) * (b - op.b.zero) * m.m, 1 << m.shift)
        return clamped(half_up(exact), op.y.zero, op.lo, op.hi)
    ma, mb, shift = exact_sum(op)
    exact = Fraction((a - op.a.zero) * ma + (b - op.b.zero) * mb, 1 << shift)
    return clamped(round(exact), op.y.zero, op.lo, op.hi)


def binary(name: str, op: BinaryS8, *shapes: tuple[int, ...], extreme: bool = False) -> Case:
    a, b = (s8(R, 2, *shape) for shape in shapes)
    if extreme:
        a, b = (np.where(v < 0, np.int8(-128), np.int8(127)) for v in (a, b))
    return Case(name, op, (a, b))


BINARIES = [
    binary("add_0", BinaryS8("add", A, B, Quant(0.12, 5)), (3, 37), (3, 37)),
    binary("add_1", BinaryS8("add", A, B, Quant(0.12, -5), -10, 90), (2, 3, 4, 5), (3, 1, 5)),
    binary("add_2", BinaryS8("add", Quant(0.25), Quant(0.5, 7), Quant(1.0, 1)), (5, 8), (8,)),
    binary("add_3", BinaryS8("add", Quant(0.5, 1), Quant(0.5), Quant(1.0)), (9,), (1,)),
    binary("add_4", BinaryS8("add", A, B, Quant(1e-4, 9)), (40,), (40,), extreme=True),
    binary("add_5", BinaryS8("add", A, Quant(1e-9), Quant(0.05, 2)), (4, 1, 3), (1, 5, 1)),
    binary("sub_0", BinaryS8("sub", A, B, Quant(0.12, 5)), (2, 19), (2, 19)),
    binary("sub_1", BinaryS8("sub", Quant(1.0, -128), Quant(1.0, 127), Quant(2.0, -1)),
           (33,), (33,), extreme=True),
    binary("mul_0", BinaryS8("mul", A, B, Quant(0.2, 4)), (3, 37), (3, 37)),
    binary("mul_1", BinaryS8("mul", A, B, Quant(0.03, -4), -7, 50), (2, 3, 4, 5), (4, 1)),
    binary("mul_2", BinaryS8("mul", Quant(1.0, -128), Quant(1.0, -128), Quant(0.01, 0)),
           (33,), (33,), extreme=True),
    binary("mul_3", BinaryS8("mul", Quant(9.0, -128), Quant(9.0, 127), Quant(1e-6, 0)),
           (33,), (33,), extreme=True),
]  # fmt: skip


@pytest.mark.parametrize("case", BINARIES, ids=lambda c: c.name)
def test_binary_is_exact(case: Case) -> None:
    a, b = np.broadcast_arrays(*(x[0] for x in case.inputs))
    want = [binary_oracle(case.op, *map(int, ab)) for ab in zip(a.flat, b.flat, strict=True)]
    assert case.outputs()[0].ravel().tolist() == want


def test_sums_are_those_of_floats() -> None:
    """All pairs; scales a power of two apart have exact ties, which go to even."""
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    for scales in ((0.5, 0.25, 1.0), (0.0371, 0.0211, 0.0473)):
        qa, qb, qy = (Quant(s, z) for s, z in zip(scales, (3, -128, -7), strict=True))
        real = (a - 3) * qa.scale + (b + 128) * qb.scale
        want = np.clip(np.rint(real / qy.scale) - 7, -128, 127)
        wrong = AddS8(qa, qb, qy, -128, 127).reference(a, b) != want
        assert wrong.mean() < 1e-4 and (scales[0] != 0.5 or not wrong.any())


def test_a_sum_in_steps_too_fine() -> None:
    with pytest.raises(Unsupported, match=r"a sum of scales 1e\+09 and 0.11 in steps of 0.1") as e:
        BinaryS8("add", Quant(1e9), B, Quant(0.1)).reference(np.zeros(1), np.zeros(1))
    assert "calibrate" in e.value.hint


def test_too_many_axes() -> None:
    shapes = (2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2)
    case = binary("axes", BINARIES[0].op, *shapes)  # type: ignore[arg-type]
    node = case.graph().nodes[0]
    with pytest.raises(Unsupported, match=r"add of .* is not supported"):
        node.op.kernel(node, {})


# Pooling


def pool_oracle(op: Pool2dS8, x: Array) -> Array:
    """Pixel by pixel, tap by tap; x [n][h][w][c]."""
    _, h, w, _ = x.shape
    y = np.zeros(op.infer(TensorType(x.shape, DType.S8)).dims, int)
    for at in np.ndindex(*y.shape):
        taps = list(_taps(op.window, at[1], at[2], h, w))
        inside = [int(x[at[0], i, j, at[3]]) for i, j in taps if 0 <= i < h and 0 <= j < w]
        pads = (op.window.pad[0], op.window.pad[2]) if op.count_padding else (0, 0)
        counted = sum(-pads[0] <= i < h + pads[0] and -pads[1] <= j < w + pads[1] for i, j in taps)
        count = (op.divisor or counted) if op.mean else 1
        acc = sum(v - op.x.zero for v in inside) if op.mean else max(inside) - op.x.zero
        m = Multiplier.of(op.x.scale / op.y.scale / count)
        y[at] = clamped(round(Fraction(acc * m.m, 1 << m.shift)), op.y.zero, op.lo, op.hi)
    return y


def _taps(window: Window, oy: int, ox: int, h: int, w: int) -> Iterator[tuple[int, int]]:
    for ky, kx in np.ndindex(*window.kernel):
        yield (
            oy * window.stride[0] - window.pad[0] + ky * window.dilation[0],
            ox * window.stride[1] - window.pad[2] + kx * window.dilation[1],
        )


def pool(name: str, op: Pool2dS8, *shape: int, low: int = -128) -> Case:
    return Case(name, op, (s8(R, 2, *shape, low=low),))


X, Y = Quant(0.05, -7), Quant(0.031, 4)
W22, W33 = Window((2, 2), (2, 2)), Window((3, 3), (2, 2), pad=(1, 1, 1, 1))
CEIL = Window((3, 3), (2, 2), pad=(1, 2, 1, 1))
POOLS = [
    pool("max_0", Pool2dS8(W22, False, X, X), 1, 4, 6, 8),
    pool("max_1", Pool2dS8(W33, False, X, X, -20, 30), 2, 7, 5, 6),
    pool("max_2", Pool2dS8(Window((3, 2), (1, 1), (2, 3), (2, 1, 0, 3)), False, X, Y), 1, 6, 7, 3),
    pool("max_3", Pool2dS8(CEIL, False, X, Quant(0.05, 20)), 1, 6, 5, 9),
    pool("mean_0", Pool2dS8(Window((25, 5)), True, X, Quant(0.02, -128)), 1, 25, 5, 64),
    pool("mean_1", Pool2dS8(Window((8, 8)), True, X, X), 1, 8, 8, 64),
    pool("mean_2", Pool2dS8(W22, True, X, X, 0, 60), 2, 5, 6, 7),
    pool("mean_3", Pool2dS8(W33, True, X, Y), 1, 7, 5, 6),
    pool("mean_4", Pool2dS8(W33, True, X, Y, count_padding=False), 1, 7, 5, 6),
    pool("mean_5", Pool2dS8(CEIL, True, X, Y), 1, 6, 5, 3),
    pool("mean_6", Pool2dS8(CEIL, True, X, Y, divisor=5), 1, 6, 5, 4),
    pool("mean_7", Pool2dS8(Window((30, 20)), True, Quant(0.5), Quant(0.5)), 1, 30, 20, 5, low=127),
    pool("mean_8", Pool2dS8(Window((2, 2)), True, Quant(9.0), Quant(1e-3)), 1, 3, 3, 1),
]


@pytest.mark.parametrize("case", POOLS, ids=lambda c: c.name)
def test_pooling_is_exact(case: Case) -> None:
    op = case.op
    assert isinstance(op, Pool2dS8)
    assert case.outputs()[0].tolist() == pool_oracle(op, case.inputs[0][0]).tolist()


def test_too_many_counts() -> None:
    window = Window((15, 15), pad=(7, 7, 7, 7))
    case = pool("counts", Pool2dS8(window, True, X, Y, count_padding=False), 1, 15, 15, 1)
    node = case.graph().nodes[0]
    with pytest.raises(Unsupported, match="225 taps by 35 different counts"):
        node.op.kernel(node, {})


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_c_is_the_twin(tmp_path: Path, machine: str) -> None:
    run_cases([*BINARIES, *POOLS], tmp_path, machine)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_over_their_inputs(tmp_path: Path, machine: str) -> None:
    """Where the traces say that y may lie over an input, also exactly over it."""
    layers = {
        c.name: Layer(c.op, c.inputs[0][0], (), *(x[0] for x in c.inputs[1:]))
        for c in [*BINARIES, *POOLS]
    }
    lines = run_kernels(layers, tmp_path, machine, *MACHINES[machine])
    assert not [line for line in lines if not line.endswith("good")]
    assert {"add_0_0 0 good", "mul_0_0 5 good", "max_0_0 0 good", "mean_0_0 0 good"} <= set(lines)
