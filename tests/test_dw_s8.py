# SPDX-License-Identifier: Apache-2.0
"""Depthwise int8 convolutions: the twin against plain loops, every kernel against the twin, over
its input too."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emx.ir import Array
from emx.kernel import Kernel, Wishes
from emx.ops.conv2d_s8 import Conv2dS8
from emx.quant import Quant
from emx.window import Window
from kernels_s8 import Layer, alike, run_kernels, scaled
from twins import MACHINES, s8

R = np.random.default_rng(11)
X, Y = Quant(0.05, -7), Quant(0.031, 4)
SAME = (1, 1, 1, 1)


def layer(
    window: Window,
    shape: tuple[int, int, int, int],
    *,
    x: Quant = X,
    y: Quant = Y,
    lo: int = -128,
    hi: int = 127,
    spread: float = 3.0,
    extreme: bool = False,
    channels_first: bool = False,
) -> Layer:
    """`shape` is [n][h][w][c]."""
    n, h, width, c = shape
    data = s8(R, n, c, h, width) if channels_first else s8(R, *shape)
    w = s8(R, c, 1, *window.kernel, low=-127)
    if extreme:
        data, w = (np.where(v < 0, np.int8(-128), np.int8(127)) for v in (data, w))
    op = Conv2dS8(window, c, x, y, lo, hi, channels_first=channels_first)
    return Layer(op, data, (w, *scaled(w, x, y, spread, seed=c)))


def least(of: Layer) -> Layer:
    """The largest sums of two taps that fit 16 bits."""
    w, *others = of.constants
    taps = np.where(np.arange(w[0].size) % 2, -128, -127).reshape(w.shape[1:]).astype(np.int8)
    x = np.where(of.x < 100, np.int8(-128), np.int8(127))
    return replace(of, x=x, constants=(np.broadcast_to(taps, w.shape).copy(), *others))


LAYERS = {
    "same": layer(Window((3, 3), pad=SAME), (1, 6, 7, 8)),
    "tall": layer(Window((3, 3), pad=SAME), (2, 9, 5, 5), lo=4, hi=90),
    "stride": layer(Window((3, 3), (2, 2), pad=(0, 1, 0, 1)), (1, 12, 12, 6)),
    "strides": layer(Window((3, 3), (2, 2), pad=SAME), (1, 11, 9, 4), y=Quant(0.1, -128)),
    "odd": layer(Window((3, 3), (3, 1), pad=(1, 0, 2, 1)), (1, 10, 6, 3)),
    "thirds": layer(Window((3, 3), (1, 3), pad=SAME), (1, 6, 10, 3)),
    "far": layer(Window((2, 2), (4, 5)), (1, 9, 12, 3)),
    "five": layer(Window((5, 5), pad=(2, 2, 2, 2)), (1, 7, 8, 5)),
    "even": layer(Window((4, 2), (1, 2), pad=(1, 2, 0, 1)), (1, 8, 9, 4)),
    "four": layer(Window((4, 4), pad=(2, 1, 2, 1)), (1, 8, 9, 4)),
    "dilated": layer(Window((3, 3), dilation=(2, 3), pad=(2, 2, 3, 3)), (1, 8, 9, 4)),
    "spread": layer(Window((2, 3), (2, 2), (3, 1), (3, 0, 1, 1)), (1, 9, 9, 5)),
    "long": layer(Window((1, 9), pad=(0, 0, 4, 4)), (1, 3, 20, 4)),
    "time": layer(Window((9, 1), (2, 1)), (1, 31, 1, 6)),
    "pixel": layer(Window((1, 1)), (1, 3, 4, 5)),
    "whole": layer(Window((4, 3)), (1, 4, 3, 9)),
    "padded": layer(Window((3, 3), pad=(2, 2, 2, 2)), (1, 3, 4, 5)),
    "outside": layer(Window((2, 2), (3, 3), pad=(3, 3, 3, 3)), (1, 1, 1, 2)),
    "planes": layer(Window((3, 3), pad=SAME), (2, 6, 7, 5), channels_first=True),
    "extreme": layer(Window((3, 3), pad=SAME), (1, 5, 6, 6), x=Quant(0.05, -128), extreme=True),
    "steep": layer(Window((3, 3), pad=SAME), (1, 5, 6, 6), spread=4000.0),
    "sixteen": layer(Window((3, 3), pad=SAME), (1, 4, 5, 37)),
    "sixteen_taps": layer(Window((4, 2), (2, 1), pad=SAME), (1, 6, 4, 16), lo=-50, hi=90),
    "sixteen_one": layer(Window((1, 1)), (1, 2, 3, 18)),
    "sixteen_extreme": layer(Window((3, 3)), (1, 4, 4, 33), extreme=True),
    "sixteen_least": least(layer(Window((3, 3), pad=SAME), (1, 4, 4, 20))),
}


def random_layer(seed: int) -> Layer:
    """Half of them 3x3."""
    rng = random.Random(seed)

    def pair(least: int, most: int) -> tuple[int, int]:
        return rng.randint(least, most), rng.randint(least, most)

    common = rng.random() < 0.5
    kernel = (3, 3) if common else pair(1, 6)
    dilation = (1, 1) if rng.random() < 0.7 else pair(1, 3)
    pads = [rng.randint(0, (kernel[i // 2] - 1) * dilation[i // 2]) for i in range(4)]
    stride = pair(1, 2 if common else 4)
    window = Window(kernel, stride, dilation, (*pads,))  # type: ignore[arg-type]
    least = [window.reach(a) - pads[2 * a] - pads[2 * a + 1] for a in (0, 1)]
    h, w = (rng.randint(max(1, n), max(1, n) + 12) for n in least)
    bounds = (-128, 127) if common else (rng.randint(-128, 0), rng.randint(1, 127))
    spread = rng.choice((1.0, 3.0, 300.0))
    shape = (rng.randint(1, 2), h, w, rng.randint(1, 9))
    x, y = (Quant(0.05, rng.randint(-128, 127)) for _ in range(2))
    first = rng.random() < 0.1
    return layer(
        window, shape, x=x, y=y, lo=bounds[0], hi=bounds[1], spread=spread, channels_first=first
    )


RANDOM = {f"random_{seed}": random_layer(seed) for seed in range(40)}


def oracle(of: Layer) -> Array:
    """Output by output, in integers of any length."""
    op, x = of.op, of.x
    assert isinstance(op, Conv2dS8)
    w, b, m, rest = (a.tolist() for a in of.constants)
    x = x.transpose(0, 2, 3, 1) if op.channels_first else x
    window, (n, h, width, channels) = op.window, x.shape
    y = np.zeros((n, *window.out(h, width), channels), int)
    for at in np.ndindex(*y.shape):
        acc, c = b[at[3]], at[3]
        for ky, kx in np.ndindex(*window.kernel):
            iy = at[1] * window.stride[0] - window.pad[0] + ky * window.dilation[0]
            ix = at[2] * window.stride[1] - window.pad[2] + kx * window.dilation[1]
            if 0 <= iy < h and 0 <= ix < width:
                acc += (int(x[at[0], iy, ix, c]) - op.x.zero) * w[c][0][ky][kx]
        v = Fraction(acc * m[c], 1 << 41 - m[c] % 256) + Fraction(rest[c] + 256, 512)
        y[at] = max(op.lo, min(op.hi, v.numerator // v.denominator + op.y.zero))
    return y


@pytest.mark.parametrize("name", [*LAYERS, *RANDOM])
def test_the_twin_is_exact(name: str) -> None:
    of = (LAYERS | RANDOM)[name]
    assert of.expected.tolist() == oracle(of).tolist()


def replayed(kernel: Kernel, x: Array, d: int) -> bool:
    """Whether y may start d bytes before x: byte by byte, event by event."""
    t = kernel.overlap["x"]
    lost = np.zeros(x.size, bool)
    for read_lo, read_hi, write_lo, write_hi in zip(
        t.read_lo, t.read_hi, t.write_lo, t.write_hi, strict=True
    ):
        if lost[read_lo:read_hi].any():
            return False
        lost[max(0, write_lo - d) : max(0, write_hi - d)] = True
    return True


@pytest.mark.parametrize("target", ["generic", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", LAYERS)
def test_traces(name: str, target: str) -> None:
    """Every byte of y is written once; distance and in_place are what a replay gives."""
    for k in LAYERS[name].kernels(target):
        t = k.overlap["x"]
        written = np.concatenate(
            [np.arange(a, b) for a, b in zip(t.write_lo, t.write_hi, strict=True)]
        )
        assert sorted(written.tolist()) == list(range(LAYERS[name].expected.size))
        d, x = t.distance(), LAYERS[name].x
        assert replayed(k, x, d) and (d == 0 or not replayed(k, x, d - 1))
        assert t.in_place() == replayed(k, x, 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_in_place(stride: int) -> None:
    """A channel of 48x48x16 pixels is over before the next is read; and that is seen quickly."""
    big = layer(Window((3, 3), (stride, stride), pad=SAME), (1, 48, 48, 16))
    for target in ("generic", "cortex-m4", "cortex-m55"):
        began = time.perf_counter()
        kernels = big.kernels(target)
        rows = [k for k in kernels if k.variant == "rows"]
        assert rows and rows[0].overlap["x"].in_place() and rows[0].overlap["x"].distance() > 0
        assert time.perf_counter() - began < 1


def test_scratch() -> None:
    """What the memory plans of KWS and VWW have to spare."""
    kws = layer(Window((3, 3), pad=SAME), (1, 25, 5, 64))
    vww = layer(Window((3, 3), (2, 2), pad=(0, 1, 0, 1)), (1, 48, 48, 16))
    for target in ("cortex-m4", "cortex-m55"):
        assert kws.kernels(target)[0].scratch_bytes <= 256
        assert vww.kernels(target)[0].scratch_bytes <= 624


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "flags"),
    [*MACHINES.items(), ("mps2-an386", ("-Os",)), ("mps3-an547", ("-Os",))],
)
def test_kernels_are_the_twin(tmp_path: Path, machine: str, flags: tuple[str, ...]) -> None:
    layers = LAYERS | {name: of for i, (name, of) in enumerate(RANDOM.items()) if i < 16}
    lines = run_kernels(layers, tmp_path, machine, *flags)
    assert not [line for line in lines if not line.endswith("good")]
    assert len([line for line in lines if line.endswith("-1 good")]) >= 2 * len(layers)


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["mps2-an386", "mps3-an547"])
def test_without_optimisation(tmp_path: Path, machine: str) -> None:
    """Assembly finds its registers."""
    few = {name: LAYERS[name] for name in ("same", "strides", "odd", "tall")}
    lines = run_kernels(few, tmp_path, machine, "-O0")
    assert not [line for line in lines if not line.endswith("good")]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_compact_parameters(tmp_path: Path, machine: str) -> None:
    """Optimised for size: 7 bytes a channel; 12 where a bias needs more than 24 bits."""
    w, b, m, c = alike(LAYERS["same"]).constants
    b = np.append(b[:-1], np.int32(1 << 24))
    large = replace(LAYERS["same"], constants=(w, b, m, c))
    layers = {name: alike(LAYERS[name]) for name in ("same", "tall", "five")} | {"large": large}
    wishes = Wishes(optimize="size")
    words = {name: k.params["words"] for name, of in layers.items()
             for k in of.kernels("cortex-m4", wishes)}  # fmt: skip
    assert words == {"same": 7, "tall": 7, "five": 7, "large": 12}
    lines = run_kernels(layers, tmp_path, machine, *MACHINES[machine], wishes=wishes)
    assert not [line for line in lines if not line.endswith("good")]


def test_sixteen_channels_at_once() -> None:
    """Unless two products do not fit 16 bits."""
    kernels = {k: of.kernels("cortex-m55") for k, of in LAYERS.items() if "sixteen" in k}
    for k, some in kernels.items():
        assert any(one.params["sixteen"] == 1 for one in some) == (k != "sixteen_extreme")


@pytest.mark.slow
def test_wide(tmp_path: Path) -> None:
    """Sums that are scaled up by thousands need 64 bits."""
    base = LAYERS["same"]
    w, b, m, c = base.constants
    steep = replace(base, constants=(w, b, m - (m & 255) + 41 - 12, c))
    assert all(k.params["wide"] for k in steep.kernels("generic"))
    lines = run_kernels({"steep": steep}, tmp_path, "host", *MACHINES["host"])
    assert not [line for line in lines if not line.endswith("good")]
