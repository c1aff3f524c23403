# SPDX-License-Identifier: Apache-2.0
"""Convolutions with weights of 4 bits and images of 16: their C is the twin, which is PyTorch
within a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from emx.ir import DType, Unsupported
from emx.ops.conv2d_mixed import Conv2dMixed, bits_of
from emx.quant import Quant
from emx.window import Window
from twins import MACHINES, Case, run_cases

R = np.random.default_rng(7)
S16 = Quant(1 / 4096, 0, DType.S16, -32768, 32767)


def case(
    name: str,
    image: tuple[int, int, int],
    out: int,
    window: Window,
    groups: int = 1,
    *,
    bits: int,
    wide: bool = False,
    segments: int = 1,
    batch: int = 1,
    zero: int = -5,
) -> Case:
    """Weights of `bits` bits, an image and a result of 16 bits if `wide`, else of 8."""
    most = (1 << (bits - 1)) - 1
    x, y = (S16, S16) if wide else (Quant(0.05, zero), Quant(0.04, 11, lo=-100, hi=120))
    w = R.integers(-most - 1, most + 1, (out, image[2] // groups, *window.kernel)).astype(np.int8)
    scale = R.uniform(0.5, 1.5, (segments, out)) * 2 / (most * w[0].size ** 0.5)
    bias = R.normal(0, 1, out)
    shift = np.full(out, 30, np.int32)
    m = np.rint(x.scale * scale / y.scale * 2.0**shift).astype(np.int32)
    b = np.rint(bias / y.scale * 2.0**shift).astype(np.int64)
    kind = np.iinfo(x.dtype.numpy)
    inputs = R.integers(kind.min, kind.max, (3, batch, *image), endpoint=True)
    inputs[2] = R.choice([kind.min, kind.max], inputs[2].shape)
    op = Conv2dMixed(window, groups, x, y, y.lo, y.hi)
    return Case(name, op, (inputs.astype(x.dtype.numpy),), (w, b, m, shift))


SAME = Window((3, 3), pad=(1, 1, 1, 1))
CASES = [
    case("mixed_0", (1, 1, 1), 1, Window((1, 1)), bits=4),
    case("mixed_1", (1, 1, 40), 13, Window((1, 1)), bits=4, segments=5),
    case("mixed_2", (5, 4, 8), 8, Window((1, 1)), bits=4, batch=2),
    case("mixed_3", (6, 5, 7), 5, SAME, bits=4, segments=3),
    case("mixed_4", (6, 5, 6), 9, Window((3, 2), (2, 1), (1, 2), (0, 1, 2, 0)), 3, bits=4),
    case("mixed_5", (7, 6, 6), 6, SAME, 6, bits=4, batch=2),
    case("mixed_6", (7, 6, 3), 6, SAME, 3, bits=4, zero=0),
    case("wide_0", (1, 1, 300), 6, Window((1, 1)), bits=8, wide=True),
    case("wide_1", (1, 1, 1000), 5, Window((1, 1)), bits=8, wide=True, segments=4),
    case("wide_2", (9, 4, 3), 6, Window((5, 4), (2, 2), (1, 1), (2, 2, 1, 2)), bits=8, wide=True),
    case("wide_3", (7, 6, 10), 10, SAME, 10, bits=8, wide=True),
    case("wide_4", (4, 5, 4), 8, SAME, 2, bits=8, wide=True),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_c_is_the_twin(tmp_path: Path, machine: str) -> None:
    run_cases(CASES, tmp_path, machine)


@pytest.mark.parametrize("layer", CASES, ids=lambda c: c.name)
def test_the_twin_is_pytorch(layer: Case) -> None:
    """In double precision, quantised, with weights of reals."""
    op = layer.op
    assert isinstance(op, Conv2dMixed) and op.x and op.y
    w, b, m, shift = layer.constants
    scale = np.repeat(m, -(-w[0].size // len(m)), axis=0)[: w[0].size].T / 2.0 ** shift[:, None]
    ordered = np.moveaxis(w, 1, -1)
    reals = np.moveaxis((ordered.reshape(len(w), -1) * scale).reshape(ordered.shape), -1, 1)
    x = torch.tensor(layer.inputs[0].astype(np.float64) - op.x.zero).flatten(0, 1)
    top, bottom, left, right = op.window.pad
    image = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = F.conv2d(
        image, torch.tensor(reals), torch.tensor(b / 2.0**shift), op.window.stride,
        dilation=op.window.dilation, groups=op.groups,
    ).permute(0, 2, 3, 1)  # fmt: skip
    want = torch.clamp(torch.round(y) + op.y.zero, op.lo, op.hi).numpy()
    off = np.abs(layer.outputs().reshape(want.shape) - want)
    assert off.max() <= 1 and (off > 0).mean() < 1e-3
    assert np.ptp(want) > 0.3 * (op.hi - op.lo) or want.size < 9


@pytest.mark.parametrize(("weight", "bias"), [(-128, 0), (1, 1 << 62)])
def test_sums_that_might_overflow(weight: int, bias: int) -> None:
    """A segment in 32 bits, or all of it in 64."""
    layer = case("wide", (1, 1, 600), 2, Window((1, 1)), bits=8, wide=True)
    w, b, *scale = layer.constants
    constants = (np.full_like(w, weight), np.full_like(b, bias), *scale)
    graph = Case("wide", layer.op, layer.inputs, constants).graph()
    with pytest.raises(Unsupported, match="may overflow 64 bits"):
        layer.op.kernel(graph.nodes[0], graph.constants)


def test_weights_take_four_bits_where_they_fit() -> None:
    assert [bits_of(np.array(w, np.int8)) for w in ([-8, 7], [-9, 0], [8], [])] == [4, 8, 8, 4]
